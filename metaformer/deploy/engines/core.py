"""Which part of a model an engine computes, and what stays in PyTorch around it.

The only place in ``deploy`` that distinguishes kinds of models, besides ``graph.sizes_of``.

Classifiers and Semantic FPN are computed whole. Of a detector the engine computes the dense part: backbone, pyramid and
dense heads. Resizing before it, decoding and suppression after it, and Mask R-CNN's heads on single regions stay the
detector's own modules.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ...errors import InputError
from ...model.classifier import Classifier
from ...model.dense.build import AnyModel
from ...model.dense.detector import Detector, Segmenter
from ...model.inputs import check_images
from ...model.mixers.attention import SpatialReduction
from ...model.timm_cnn import TimmClassifier
from ...spec.dense import DenseSpec
from ...spec.model import AnySpec, ModelSpec
from ...weights.description import Description
from ...weights.safetensors_io import read_tensors, write_tensors
from .graph import Sizes

Run = Callable[[Tensor], tuple[Tensor, ...]]
"""Images (B, C, H, W) to the outputs of the core."""


class GraphEngine(Protocol):
    """A module that runs graphs: ``onnxruntime`` or ``openvino``."""

    def library(self) -> ModuleType:
        """The engine's package; raises ``MissingExtraError``."""

    def form(self, precision: str) -> Literal["maps", "tokens"]:
        """The form of blocks that it runs fastest."""

    def converted(self, program: ExportedProgram) -> Any:
        """A program as the engine's graph."""

    def write(self, model: Any, folder: Path) -> None:
        """Write a graph into a folder."""

    def read(self, folder: Path) -> Any:
        """The graph that ``write`` wrote."""

    def runner(self, model: Any, precision: str, threads: int | None = None) -> Run:
        """A function that runs a graph."""


REGIONS = "regions.safetensors"
"""Weights of the modules that stay in PyTorch."""


class DensePart(nn.Module):
    """The maps of a detector and the outputs of its dense heads as one flat tuple: the maps first."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.neck = detector.neck
        self.head = detector.net.get_submodule("rpn.head" if detector.spec.finds_masks else "head")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) to maps (B, 256, H_i, W_i), then scores and box codes."""
        maps = list(self.neck(images).values())
        found = self.head(maps)
        if isinstance(found, dict):
            return *maps, found["cls_logits"], found["bbox_regression"]
        scores, codes = found
        return *maps, *scores, *codes


def expect_model(model: object) -> None:
    """Raise ``InputError`` unless this is a model of this library."""
    if not isinstance(model, (Classifier, TimmClassifier, Detector, Segmenter)):
        raise InputError(
            f"model: expected a classifier, detector or segmenter of this library, got {type(model).__name__}"
        )
    if getattr(model.spec, "tokens", None) is not None:
        raise InputError("model: engines take models of images; run a model of token ids in PyTorch")


def description_of(model: AnyModel) -> Description:
    """The description of a model in memory, also of a folded one, which could not be saved."""
    return Description(name=model.name, spec=model.spec, preprocessing=model.preprocessing)


def core_of(model: nn.Module) -> nn.Module:
    """The part that an engine computes: the model itself, or the dense part of a detector."""
    return DensePart(model) if isinstance(model, Detector) else model


def score_outputs(model: nn.Module) -> int:
    """How many of the core's last outputs are scores or boxes."""
    if not isinstance(model, Detector):
        return 1
    return 2 * len(model.neck.strides) if model.spec.finds_masks else 2


def coarsest_stride(model: nn.Module) -> int:
    """The stride of a model's coarsest map in pixels, reduced maps of keys included."""
    each: Any
    if isinstance(model, (Detector, Segmenter)):
        stages, strides = getattr(model.body, "stages", ()), list(model.neck.strides)
        each = getattr(model.spec.backbone, "reductions", list)()
    else:
        info: Any = model.feature_info
        stages, strides = getattr(getattr(model, "backbone", None), "stages", ()), info.reduction()
        each = getattr(model.spec, "reductions", list)()
    reduced = [
        stride * part.ratio
        for stage, stride in zip(stages, each, strict=False)
        for part in stage.modules()
        if isinstance(part, SpatialReduction)
    ]
    return int(max(*strides, *reduced, 1))


def has_input_size(model: nn.Module) -> bool:
    """Whether all images are prepared in one size; detectors and segmenters resize each image by its own shape."""
    return not isinstance(model, (Detector, Segmenter))


def usual_size(model: AnyModel) -> tuple[int, int] | None:
    """Height and width that the model is built for; None if any."""
    spec = model.spec
    return None if isinstance(spec, DenseSpec) and not spec.square else spec.img_size


def core_inputs(model: nn.Module, images: Tensor) -> Tensor:
    """The core's input for the model's: a detector resizes, normalizes and pads its images."""
    if not isinstance(model, Detector):
        return images
    inputs: Tensor = model.net.get_submodule("transform")([image.float() for image in images])[0].tensors
    return inputs


# --- the whole model around an engine -----------------------------------------------------------------------------


def whole(run: Run, spec: AnySpec | DenseSpec, sizes: Sizes, model: nn.Module | None) -> Callable[[Any], Any]:
    """The call of the whole model, its core computed by ``run``.

    Args:
        run: the engine.
        spec: of the model.
        sizes: which images the engine takes.
        model: the modules that stay in PyTorch; needed for a detector.
    """
    if isinstance(model, Detector):
        return around(model, run)

    def call(images: Tensor) -> Tensor:
        check_images(images, spec.in_chans)
        height, width = int(images.shape[2]), int(images.shape[3])
        sizes.check(height, width)
        if isinstance(spec, ModelSpec) and min(map(min, spec.grids((height, width)))) < 1:
            raise InputError(f"images: {height} × {width} pixels leave no token in the last stage; feed larger images")
        return run(images.detach().float())[0]

    return call


def around(detector: Detector, run: Run) -> Detector:
    """The detector with an engine in place of its dense part; all other modules are shared."""
    net: Any = detector.net
    graph = _Graph(run, len(detector.neck.strides))
    if detector.spec.finds_masks:
        rpn = _with(net.rpn, head=_DenseOutputs(graph, masks=True))
        return _with(detector, net=_with(net, backbone=graph, rpn=rpn))
    return _with(detector, net=_with(net, backbone=graph, head=_DenseOutputs(graph, masks=False)))


def _with(module: Any, **parts: nn.Module) -> Any:
    """A shallow copy of a module with some parts replaced."""
    changed = copy.copy(module)
    # ``copy.copy`` shares the dictionary of submodules; assigning in it would change the original.
    changed._modules = {**module._modules, **parts}
    return changed


class _Graph(nn.Module):
    """Takes the backbone's place. One call computes the maps and keeps the outputs of the dense head for later."""

    def __init__(self, run: Run, levels: int) -> None:
        super().__init__()
        self.run, self.levels = run, levels
        self.outputs: tuple[Tensor, ...] = ()

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """(B, C, H, W) to maps (B, 256, H_i, W_i) by their numbers."""
        found = self.run(images)
        # The dense head is called next, by torchvision's code, with the maps alone.
        self.outputs = found[self.levels :]
        return OrderedDict((str(i), one) for i, one in enumerate(found[: self.levels]))


class _DenseOutputs(nn.Module):
    """Takes the dense head's place and returns what the graph has computed for the same images."""

    def __init__(self, graph: _Graph, masks: bool) -> None:
        super().__init__()
        self._graph = (graph,)  # in a tuple, so that it is not registered as a submodule a second time
        self.masks = masks

    def forward(self, maps: list[Tensor]) -> Any:
        """In the form of the detector's own head."""
        found, levels = self._graph[0].outputs, len(maps)
        if self.masks:
            return list(found[:levels]), list(found[levels:])
        return {"cls_logits": found[0], "bbox_regression": found[1]}

    def compute_loss(self, *_: Any) -> Any:
        """Raises: a compiled detector cannot be trained."""
        raise NotImplementedError("a compiled detector has no losses; train the original model")


def write_outside(model: nn.Module, folder: Path) -> None:
    """Write the weights of the modules that stay in PyTorch, if they have any: Mask R-CNN's heads on regions."""
    if isinstance(model, Detector) and model.spec.finds_masks:
        write_tensors(folder / REGIONS, model.net.get_submodule("roi_heads").state_dict())


def read_outside(description: Description, folder: Path) -> Detector | None:
    """The modules that stay in PyTorch, from what ``write_outside`` wrote; None if the engine computes everything."""
    spec = description.spec
    if not isinstance(spec, DenseSpec) or not spec.finds_objects:
        return None
    # The engine has the backbone's weights, so its mixers, which may be Python objects, need not be built.
    model: Any = description.build("identity" if spec.mixers else None).eval().requires_grad_(False)
    if spec.finds_masks:
        model.net.get_submodule("roi_heads").load_state_dict(read_tensors(folder / REGIONS)[0])
    return model


@torch.no_grad()
def outputs(core: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """A core's outputs in PyTorch, as a flat tuple."""
    found = core(images)
    return tuple(found) if isinstance(found, tuple) else (found,)
