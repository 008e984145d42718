"""int8 by NNCF's quantization after training: weights and activations in 256 steps, fitted to images of the user.

Only products are rounded: convolutions, linear layers, the products of attention. Left alone NNCF rounds whatever
stands between them too, sums, pooling and the residual stream, which costs digits there and saves nothing. The first
convolution and the last layer in front of each answer stay float: they are a small part of the work, and rounding
pixels or scores moves the answers most.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.decode import is_image_name, read_image
from ..data.transforms.image import evaluation_transform, to_bytes
from ..errors import InputError, MissingExtraError
from ..model.dense.detector import Detector
from .engines.core import core_inputs
from .engines.openvino import without_telemetry

IMAGES = 300
"""So many are looked at: ranges hardly move beyond."""
_WEIGHTED = {"Convolution", "GroupConvolution", "MatMul", "Conv", "Gemm"}


def calibration_images(model: Any, given: Iterable[Any] | str | Path | None) -> list[Tensor]:
    """What the model's core sees of up to ``IMAGES`` calibration images, each (1, C, H, W).

    Args:
        model: whose preprocessing says what is expected.
        given: batches (B, C, H, W) prepared as ``model.preprocessing`` says, such batches with labels beside, or a
            folder of images; for a detector images (C, H, W) in [0, 1] of any size, or lists of them.

    Raises:
        InputError: none, or of another size or number of channels; the message names both shapes.
    """
    if given is None:
        raise InputError(
            "precision int8 needs calibration images, from which the ranges of all maps are taken: give "
            "calibration=BATCHES or calibration=FOLDER, some hundred images like those it will see"
        )
    singles = _in_folder(model, Path(given)) if isinstance(given, (str, Path)) else _singles(given)
    chosen = [_checked(model, one) for one in islice(singles, IMAGES)]
    if not chosen:
        raise InputError("calibration: expected at least one image, got none")
    with torch.no_grad():
        return [core_inputs(model, one[None]).cpu() for one in chosen]


def _singles(given: Iterable[Any]) -> Iterator[Tensor]:
    """Images (C, H, W) one by one out of batches, with or without labels."""
    if not isinstance(given, Iterable) or isinstance(given, dict):
        raise InputError(f"calibration: expected batches (B, C, H, W) or a folder, got {type(given).__name__}")
    if isinstance(given, Tensor) and given.ndim < 5:
        given = [given]
    for batch in given:
        images = getattr(batch, "images", batch)
        labeled = isinstance(images, (tuple, list)) and images and isinstance(images[0], Tensor)
        if labeled and images[0].ndim == 4:
            images = images[0]
        if isinstance(images, Tensor) and images.ndim == 3:
            images = [images]
        if not isinstance(images, (Tensor, list, tuple)):
            raise InputError(f"calibration: expected batches (B, C, H, W), got {type(images).__name__}")
        yield from images


def _in_folder(model: Any, folder: Path) -> Iterator[Tensor]:
    files = sorted(file for file in folder.rglob("*") if is_image_name(file.name)) if folder.is_dir() else []
    if not files:
        raise InputError(f"calibration: {folder} is no folder with images in it")
    channels = model.spec.in_chans
    plain = isinstance(model, Detector)
    prepare = evaluation_transform(model.preprocessing, channels)
    for file in files:
        image = read_image(file, "L" if channels == 1 else "RGB")
        yield to_bytes(image).float() / 255 if plain else prepare(image)


def _checked(model: Any, image: Tensor) -> Tensor:
    """Refuse an image of another size or with other channels."""
    channels, size = model.spec.in_chans, tuple(model.preprocessing.size)
    came = tuple(image.shape)
    free = isinstance(model, Detector)
    if len(came) != 3 or came[0] != channels or not (free or came[1:] == size):
        wanted = (channels, "H", "W") if free else (channels, *size)
        shape = ", ".join(map(str, wanted))
        raise InputError(
            f"calibration: expected images ({shape}) as model.preprocessing says, got {came}: the ranges of other "
            "images are not those of the ones it will see"
        )
    return image.float()


def quantized(graph: Any, images: list[Tensor], outputs: int) -> Any:
    """An OpenVINO or ONNX graph with int8 products.

    Args:
        graph: an ``openvino.Model`` or an ``onnx.ModelProto``.
        images: (1, C, H, W) each.
        outputs: so many of its last answers are scores or boxes, whose last layers stay float.

    Raises:
        MissingExtraError: NNCF is not installed.
    """
    without_telemetry()
    try:
        import nncf
        from nncf.quantization.advanced_parameters import QuantizationParameters
    except ImportError:
        raise MissingExtraError(
            "NNCF, which makes int8, is not installed: pip install 'metaformer[openvino]'"
        ) from None
    nncf.set_log_level(logging.ERROR)
    onnx = not hasattr(graph, "get_ordered_ops")
    name = graph.graph.input[0].name if onnx else None
    kept = _onnx_ends(graph, outputs) if onnx else _openvino_ends(graph, outputs)
    kinds = (
        {one.op_type for one in graph.graph.node} if onnx else {op.get_type_name() for op in graph.get_ordered_ops()}
    )
    advanced = nncf.AdvancedQuantizationParameters()
    if onnx:  # ONNX Runtime takes one zero for all channels of a depthwise layer's input
        advanced.activations_quantization_params = QuantizationParameters(per_channel=False)
    data = nncf.Dataset(images, lambda one: {name: one.numpy()} if onnx else one.numpy())
    with redirect_stdout(StringIO()):  # its bars would stand among what the command prints
        return nncf.quantize(
            graph,
            data,
            preset=nncf.QuantizationPreset.MIXED,  # activations may lie on one side of zero, as behind StarReLU
            # Trap: with ModelType.TRANSFORMER, NNCF 3.4 makes (C, K) of a free graph's answer (B, K).
            subset_size=len(images),
            fast_bias_correction=True,
            advanced_parameters=advanced,
            ignored_scope=nncf.IgnoredScope(names=kept, types=sorted(kinds - _WEIGHTED), validate=False),
        )


def _openvino_ends(graph: Any, outputs: int) -> list[str]:
    """Names of the first layer with weights and of the last one in front of each of the last answers."""
    operations = graph.get_ordered_ops()
    weighted = [one for one in operations if one.get_type_name() in _WEIGHTED]
    names = [weighted[0].get_friendly_name()] if weighted else []
    for result in graph.get_results()[-outputs:]:
        here, seen = [result], set()
        while here:
            one = here.pop()
            if one.get_friendly_name() in seen:
                continue
            seen.add(one.get_friendly_name())
            if one.get_type_name() in _WEIGHTED:
                names.append(one.get_friendly_name())
            else:
                here += [one.input_value(i).get_node() for i in range(one.get_input_size())]
    return sorted(set(names))


def _onnx_ends(graph: Any, outputs: int) -> list[str]:
    """As ``_openvino_ends``."""
    made = {name: node for node in graph.graph.node for name in node.output}
    first = next((node.name for node in graph.graph.node if node.op_type in _WEIGHTED), None)
    names = set() if first is None else {first}
    here, seen = [output.name for output in graph.graph.output][-outputs:], set()
    while here:
        name = here.pop()
        node = made.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in _WEIGHTED:
            names.add(node.name)
        else:
            here += list(node.input)
    return sorted(names)


def scores_of(model: nn.Module) -> int:
    """How many of a core's last answers are scores or boxes."""
    if not isinstance(model, Detector):
        return 1
    return 2 * len(model.neck.strides) if model.spec.finds_masks else 2
