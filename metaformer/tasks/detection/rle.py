"""Masks as COCO's run lengths, through faster-coco-eval."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import MissingExtraError

Rle = dict[str, Any]
"""A mask as COCO writes it: ``size`` (H, W) and ``counts``, the lengths of its runs as a string."""


def encoded(masks: NDArray[np.uint8]) -> tuple[Rle, ...]:
    """Masks (G, H, W) of zeros and ones as run lengths."""
    if not len(masks):
        return ()
    columns = np.asfortranarray(masks.transpose(1, 2, 0))  # COCO counts down the columns
    runs = evaluator().mask.encode(columns)
    return tuple({"size": [int(side) for side in run["size"]], "counts": run["counts"].decode()} for run in runs)


def decoded(run: Rle) -> NDArray[np.uint8]:
    """The mask (H, W) of zeros and ones."""
    return evaluator().mask.decode({"size": run["size"], "counts": run["counts"].encode()})


def evaluator() -> ModuleType:
    """faster-coco-eval, imported where it is needed.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import faster_coco_eval
    except ImportError:
        raise MissingExtraError(
            "average precision and masks need faster-coco-eval, which is not installed. "
            "pip install 'metaformer[dense]' brings it"
        ) from None
    return faster_coco_eval
