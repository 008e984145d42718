"""Masks as COCO's run-length encoding (RLE), through faster-coco-eval."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MissingExtraError

Rle = dict[str, Any]
"""A mask in COCO's format: ``size`` (H, W) and ``counts``, the lengths of its runs as a compressed string."""


def encode(masks: NDArray[np.uint8]) -> tuple[Rle, ...]:
    """The run lengths of masks (G, H, W) of zeros and ones."""
    if not len(masks):
        return ()
    columns = np.asfortranarray(masks.transpose(1, 2, 0))  # COCO counts down the columns
    runs = evaluator().mask.encode(columns)
    return tuple({"size": [int(side) for side in run["size"]], "counts": run["counts"].decode()} for run in runs)


def decode(run: Rle) -> NDArray[np.uint8]:
    """The mask (H, W) of zeros and ones."""
    mask: NDArray[np.uint8] = evaluator().mask.decode({"size": run["size"], "counts": run["counts"].encode()})
    return mask


def evaluator() -> ModuleType:
    """The module ``faster_coco_eval``, which is an optional dependency.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import faster_coco_eval
    except ImportError:
        raise MissingExtraError(
            "average precision and masks need faster-coco-eval, which is not installed. "
            "Install it with pip install 'metaformer[dense]'"
        ) from None
    module: ModuleType = faster_coco_eval
    return module
