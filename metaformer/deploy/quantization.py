"""int8 by NNCF's post-training quantization: weights and activations in 256 steps, calibrated on the user's images.

Only products are quantized: convolutions, linear layers, the products of attention. By default NNCF also quantizes what
stands between them, sums, pooling and the residual stream, which costs accuracy and saves nothing. The first
convolution and the last layer before each output stay float: they are a small part of the work, and rounding pixels or
scores changes the output most.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..data.decode import is_image_name, read_image
from ..errors import InputError, MissingExtraError
from ..model.dense.build import AnyModel
from ..tasks.task import task_named
from ..types import Batch
from .engines.core import core_inputs, description_of, has_input_size
from .engines.openvino import without_telemetry

Calibration: TypeAlias = "Iterable[Tensor | Sequence[object] | Batch] | str | Path"
"""Batches of prepared images, such batches with labels, lists of images for a detector, or a folder of images."""

IMAGES = 300
"""The number of images used; more hardly change the ranges."""
_WEIGHTED = {"Convolution", "GroupConvolution", "MatMul", "Conv", "Gemm"}


def calibration_images(model: AnyModel, calibration: Calibration | None) -> list[Tensor]:
    """The inputs of the model's core for up to ``IMAGES`` calibration images, each (1, C, H, W).

    Args:
        model: its preprocessing and number of channels say what is expected.
        calibration: batches (B, C, H, W) prepared as ``model.preprocessing`` says, such batches with labels, or a
            folder of images; for a detector images (C, H, W) in [0, 1] of any size, or lists of them.

    Raises:
        InputError: no images, or images of another size or number of channels; the message names both shapes.
    """
    if calibration is None:
        raise InputError(
            "precision int8 needs calibration images, from which the ranges of all maps are computed: pass "
            "calibration=BATCHES or calibration=FOLDER, some hundred images like those it will see"
        )
    path = isinstance(calibration, (str, Path))
    singles = _in_folder(model, Path(calibration)) if path else _singles(calibration)  # type: ignore[arg-type]
    chosen = [_checked(model, one) for one in islice(singles, IMAGES)]
    if not chosen:
        raise InputError("calibration: expected at least one image, got none")
    return inputs_of(model, chosen)


@torch.no_grad()
def inputs_of(model: AnyModel, images: Sequence[Tensor]) -> list[Tensor]:
    """The core's input (1, C, H, W) for each prepared image (C, H, W)."""
    return [core_inputs(model, image[None]).cpu() for image in images]


def _singles(batches: Iterable[Any]) -> Iterator[Tensor]:
    """Images (C, H, W) one by one from batches, with or without labels."""
    if not isinstance(batches, Iterable) or isinstance(batches, dict):
        raise InputError(f"calibration: expected batches (B, C, H, W) or a folder, got {type(batches).__name__}")
    if isinstance(batches, Tensor) and batches.ndim < 5:
        batches = [batches]
    for batch in batches:
        images = batch.inputs if isinstance(batch, Batch) else batch
        labeled = isinstance(images, (tuple, list)) and images and isinstance(images[0], Tensor)
        if labeled and images[0].ndim == 4:
            images = images[0]
        if isinstance(images, Tensor) and images.ndim == 3:
            images = [images]
        if not isinstance(images, (Tensor, list, tuple)):
            raise InputError(f"calibration: expected batches (B, C, H, W), got {type(images).__name__}")
        yield from images


def _in_folder(model: AnyModel, folder: Path) -> Iterator[Tensor]:
    files = sorted(file for file in folder.rglob("*") if is_image_name(file.name)) if folder.is_dir() else []
    if not files:
        raise InputError(f"calibration: {folder} is not a folder with images")
    task = task_named(description_of(model).task)
    for file in files:
        yield task.prepare(model, read_image(file, "L" if model.spec.in_chans == 1 else "RGB"))


def _checked(model: AnyModel, image: Tensor) -> Tensor:
    """The image as float; refuses another number of channels, or another size than the model's preprocessing gives."""
    channels, size = model.spec.in_chans, tuple(model.preprocessing.size)
    shape, any_size = tuple(image.shape), not has_input_size(model)
    if len(shape) != 3 or shape[0] != channels or not (any_size or shape[1:] == size):
        expected = ", ".join(map(str, (channels, "H", "W") if any_size else (channels, *size)))
        raise InputError(
            f"calibration: expected images ({expected}) prepared as model.preprocessing says, got {shape}: other "
            "images have other ranges than those the model will see"
        )
    return image.float()


def quantized(graph: Any, images: list[Tensor], outputs: int) -> Any:
    """An OpenVINO or ONNX graph with int8 products.

    Args:
        graph: an ``openvino.Model`` or an ``onnx.ModelProto``.
        images: (1, C, H, W) each.
        outputs: how many of its last outputs are scores or boxes, whose last layers stay float.

    Raises:
        MissingExtraError: NNCF is not installed.
    """
    without_telemetry()
    try:
        import nncf
        from nncf.quantization.advanced_parameters import QuantizationParameters
    except ImportError:
        raise MissingExtraError(
            "NNCF, which quantizes to int8, is not installed: pip install 'metaformer[openvino]'"
        ) from None
    nncf.set_log_level(logging.ERROR)
    onnx = not hasattr(graph, "get_ordered_ops")
    name = graph.graph.input[0].name if onnx else None
    kept = _onnx_ends(graph, outputs) if onnx else _openvino_ends(graph, outputs)
    kinds = (
        {one.op_type for one in graph.graph.node} if onnx else {op.get_type_name() for op in graph.get_ordered_ops()}
    )
    advanced = nncf.AdvancedQuantizationParameters()
    if onnx:  # ONNX Runtime takes one zero point for all channels of a depthwise layer's input
        advanced.activations_quantization_params = QuantizationParameters(per_channel=False)
    data = nncf.Dataset(images, lambda one: {name: one.numpy()} if onnx else one.numpy())
    with redirect_stdout(StringIO()):  # NNCF prints progress bars to stdout, which may be a JSON document
        return nncf.quantize(
            graph,
            data,
            preset=nncf.QuantizationPreset.MIXED,  # asymmetric activations: after StarReLU they are positive
            # No model_type=TRANSFORMER: with it NNCF 3.4 makes (B, K) of an output (C, K) of a graph for any size.
            subset_size=len(images),
            fast_bias_correction=True,
            advanced_parameters=advanced,
            ignored_scope=nncf.IgnoredScope(names=kept, types=sorted(kinds - _WEIGHTED), validate=False),
        )


def _openvino_ends(graph: Any, outputs: int) -> list[str]:
    """Names of the first layer with weights and of the last one before each of the last outputs."""
    operations = graph.get_ordered_ops()
    weighted = [one for one in operations if one.get_type_name() in _WEIGHTED]
    names = [weighted[0].get_friendly_name()] if weighted else []
    for result in graph.get_results()[-outputs:]:
        queue, visited = [result], set()
        while queue:
            one = queue.pop()
            if one.get_friendly_name() in visited:
                continue
            visited.add(one.get_friendly_name())
            if one.get_type_name() in _WEIGHTED:
                names.append(one.get_friendly_name())
            else:
                queue += [one.input_value(i).get_node() for i in range(one.get_input_size())]
    return sorted(set(names))


def _onnx_ends(graph: Any, outputs: int) -> list[str]:
    """As ``_openvino_ends``."""
    producers = {name: node for node in graph.graph.node for name in node.output}
    first = next((node.name for node in graph.graph.node if node.op_type in _WEIGHTED), None)
    names = set() if first is None else {first}
    queue, visited = [output.name for output in graph.graph.output][-outputs:], set()
    while queue:
        name = queue.pop()
        node = producers.get(name)
        if node is None or name in visited:
            continue
        visited.add(name)
        if node.op_type in _WEIGHTED:
            names.add(node.name)
        else:
            queue += list(node.input)
    return sorted(names)
