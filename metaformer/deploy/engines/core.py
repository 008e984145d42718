"""What of a model an engine computes, and what stays in PyTorch around it.

A classifier and a Semantic FPN are computed whole. Of a detector the engine computes what is computed at every place:
backbone, pyramid and dense heads. Resizing before, decoding and suppression after, and Mask R-CNN's heads on single
regions are the detector's own modules.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...model.dense.detector import Detector, Segmenter
from ...model.mixers.attention import SpatialReduction

Run = Callable[[Tensor], tuple[Tensor, ...]]
"""Images (B, C, H, W) to the core's answers."""


class Everywhere(nn.Module):
    """A detector's maps and what its dense heads say of them, as one flat tuple: the maps first."""

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


def core_of(model: nn.Module) -> nn.Module:
    """What is computed by an engine: the model itself, or a detector's dense part."""
    return Everywhere(model) if isinstance(model, Detector) else model


def coarsest_stride(model: nn.Module) -> int:
    """The stride in pixels of a model's coarsest map, those that keys are reduced to included."""
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


def core_inputs(model: nn.Module, images: Any) -> Tensor:
    """What the core sees of what the model is called with: a detector resizes, normalizes and pads its images."""
    if not isinstance(model, Detector):
        return images
    seen: Tensor = model.net.get_submodule("transform")([image.float() for image in images])[0].tensors
    return seen


def around(detector: Detector, run: Run) -> Detector:
    """The detector with an engine in the place of its dense part; all other modules are shared."""
    net: Any = detector.net
    graph = _Graph(run, len(detector.neck.strides))
    if detector.spec.finds_masks:
        rpn = _with(net.rpn, head=_DenseAnswers(graph, masks=True))
        return _with(detector, net=_with(net, backbone=graph, rpn=rpn))
    return _with(detector, net=_with(net, backbone=graph, head=_DenseAnswers(graph, masks=False)))


def _with(module: Any, **parts: nn.Module) -> Any:
    """A module with other parts beside the same ones."""
    changed = copy.copy(module)
    changed._modules = {**module._modules, **parts}
    return changed


class _Graph(nn.Module):
    """Stands where the backbone stood: one call computes the maps and what the head will be asked for."""

    def __init__(self, run: Run, levels: int) -> None:
        super().__init__()
        self.run, self.levels = run, levels
        self.answers: tuple[Tensor, ...] = ()

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """(B, C, H, W) to maps (B, 256, H_i, W_i) by their numbers."""
        found = self.run(images)
        self.answers = found[self.levels :]
        return OrderedDict((str(i), one) for i, one in enumerate(found[: self.levels]))


class _DenseAnswers(nn.Module):
    """Stands where the dense head stood and gives what the graph has computed of the same images."""

    def __init__(self, graph: _Graph, masks: bool) -> None:
        super().__init__()
        self._graph = (graph,)  # in a tuple: it is no part of this module
        self.masks = masks

    def forward(self, maps: list[Tensor]) -> Any:
        """As the detector's own head answers."""
        found, levels = self._graph[0].answers, len(maps)
        if self.masks:
            return list(found[:levels]), list(found[levels:])
        return {"cls_logits": found[0], "bbox_regression": found[1]}

    def compute_loss(self, *_: Any) -> Any:
        """A compiled detector does not learn."""
        raise NotImplementedError("a compiled detector gives no losses; train the model it was made of")


def whole(model: nn.Module, run: Run) -> Callable[[Any], Any]:
    """The model's call, its core computed by ``run``."""
    if isinstance(model, Detector):
        return around(model, run)
    return lambda images: run(images)[0]


@torch.no_grad()
def answers(core: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """A core's answers in PyTorch, as a flat tuple."""
    found = core(images)
    return tuple(found) if isinstance(found, tuple) else (found,)
