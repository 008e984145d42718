"""COCO's ways to say which pixels belong to an object: polygons, and run lengths, plain or packed into a text.

Run lengths count pixels down the columns, first those outside, then those inside, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from ..errors import MissingExtraError

SLACK = 1.0
"""Pixels by which an annotation may reach beyond its image: tools round differently."""


def region_fault(region: Any, height: int, width: int) -> str | None:
    """Why a ``segmentation`` cannot be of an image of this size; None where it can."""
    if isinstance(region, dict):
        return _run_fault(region, height, width)
    if not isinstance(region, list):
        return f"expected polygons or run lengths as segmentation, got {type(region).__name__}"
    for polygon in region:
        fault = _polygon_fault(polygon, height, width)
        if fault:
            return fault
    return None


def region_mask(region: Any, height: int, width: int) -> np.ndarray:
    """The pixels of a ``segmentation`` without fault: (H, W) uint8, 1 inside.

    Raises ``MissingExtraError`` where polygons are to be filled and faster-coco-eval, which does it as COCO's own tools
    do, is not installed.
    """
    if isinstance(region, dict):
        return filled(_runs(region["counts"]), height, width)
    try:
        from faster_coco_eval.core import mask as coco_mask
    except ImportError:
        raise MissingExtraError(
            "COCO's polygons are filled by faster-coco-eval, which is not installed. pip install 'metaformer[dense]' "
            "brings it"
        ) from None
    return np.asarray(coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(region, height, width))), np.uint8)


def filled(runs: Sequence[int] | np.ndarray, height: int, width: int) -> np.ndarray:
    """Run lengths that cover H × W pixels as an image: (H, W) uint8."""
    inside = (np.arange(len(runs)) % 2).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(inside, runs).reshape(width, height).T)


def unpacked(text: str) -> list[int]:
    """The run lengths in COCO's text form; raises ``ValueError`` where it breaks off or has other letters.

    Five bits a letter, lowest first, with a sixth that says that more follow; from the fourth number on each is the
    difference to the one before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{letter!r} is no letter of packed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("packed run lengths break off")
    return runs


def _runs(counts: Any) -> list[int]:
    return unpacked(counts) if isinstance(counts, str) else counts


def _run_fault(region: dict[str, Any], height: int, width: int) -> str | None:
    size, counts = region.get("size"), region.get("counts")
    if size != [height, width]:
        return f"its mask is of size {size} (height, width), the image of {[height, width]}"
    try:
        runs = _runs(counts)
    except ValueError as error:
        return f"its mask cannot be read: {error}"
    whole = isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)
    if not whole:
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
    if min(polygon) < -SLACK or right > width + SLACK or bottom > height + SLACK:
        return (
            f"its mask reaches from {min(polygon[::2]):g}, {min(polygon[1::2]):g} to {right:g}, {bottom:g}, beyond the "
            f"image of {width} × {height}"
        )
    return None
