"""COCO's encodings of the pixels of an object: polygons, and run lengths, as a list or compressed into a string.

Run lengths count pixels down the columns: first those outside of the object, then those inside, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from ..errors import MissingExtraError

TOLERANCE = 1.0
"""Pixels by which an annotation may extend beyond its image, because annotation tools round differently."""


def segmentation_fault(segmentation: Any, height: int, width: int) -> str | None:
    """Why a ``segmentation`` cannot belong to an image of this size; None where it can."""
    if isinstance(segmentation, dict):
        return _run_length_fault(segmentation, height, width)
    if not isinstance(segmentation, list):
        return f"expected polygons or run lengths as segmentation, got {type(segmentation).__name__}"
    return next((fault for polygon in segmentation if (fault := _polygon_fault(polygon, height, width))), None)


def segmentation_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The pixels of a valid ``segmentation``: (H, W) uint8, 1 inside.

    Raises ``MissingExtraError`` for polygons where faster-coco-eval, which rasterizes them exactly as COCO's own tools
    do, is not installed.
    """
    if isinstance(segmentation, dict):
        return decode_runs(_run_lengths(segmentation["counts"]), height, width)
    try:
        from faster_coco_eval.core import mask as coco_mask
    except ImportError:
        raise MissingExtraError(
            "COCO's polygons need faster-coco-eval, which is not installed. Install it with pip install "
            "'metaformer[dense]'"
        ) from None
    return np.asarray(coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))), np.uint8)


def decode_runs(runs: Sequence[int] | np.ndarray, height: int, width: int) -> np.ndarray:
    """Run lengths of H × W pixels as a mask: (H, W) uint8."""
    inside = (np.arange(len(runs)) % 2).astype(np.uint8)  # the first run is outside, and may have length 0
    # runs go down the columns: an array of (W, H) in C order, transposed
    return np.ascontiguousarray(np.repeat(inside, runs).reshape(width, height).T)


def decompress(encoded: str) -> list[int]:
    """The run lengths in COCO's string form; raises ``ValueError`` where it is truncated or has other characters.

    As ``rleFrString`` in COCO's maskApi.c: a number has five bits a character, lowest first, offset by 48, and bit 32
    says that more follow. From the fourth number on each is the difference to the one two before, its sign in bit 16.
    """
    runs: list[int] = []
    value = shift = 0
    for character in encoded:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} does not occur in compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0  # sign extension
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("the compressed run lengths are truncated")
    return runs


def _run_lengths(counts: Any) -> Any:
    return decompress(counts) if isinstance(counts, str) else counts


def _run_length_fault(segmentation: dict[str, Any], height: int, width: int) -> str | None:
    size = segmentation.get("size")
    if size != [height, width]:
        return f"its mask is of size {size} (height, width), the image of {[height, width]}"
    try:
        runs = _run_lengths(segmentation.get("counts"))
    except ValueError as error:
        return f"its mask cannot be read: {error}"
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        return "its mask cannot be read: expected run lengths of 0 or more"
    if sum(runs) != height * width:
        return f"its mask covers {sum(runs)} pixels, the image has {height * width}"
    return None


def _polygon_fault(polygon: Any, height: int, width: int) -> str | None:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        return "expected polygons of three points or more, x and y in turn"
    if not all(type(number) in (int, float) and isfinite(number) for number in polygon):
        return "expected polygons of finite numbers"
    right, bottom = max(polygon[::2]), max(polygon[1::2])
    if min(polygon) < -TOLERANCE or right > width + TOLERANCE or bottom > height + TOLERANCE:
        return (
            f"its mask extends from {min(polygon[::2]):g}, {min(polygon[1::2]):g} to {right:g}, {bottom:g}, beyond the "
            f"image of {width} × {height}"
        )
    return None
