"""An evaluation with a confusion matrix. No torch here, because reports read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class ConfusionEvaluation(Evaluation):
    """An evaluation with a confusion matrix of K classes."""

    confusion: Sequence[Sequence[int]] = ()
    """(K, K) counts; rows are true classes, columns predicted ones. Empty where there are too many classes."""

    def check(self) -> None:
        """The matrix has a row and a column for each class."""
        side = len(self.classes)
        try:
            is_valid = not len(self.confusion) or self.matrix.shape == (side, side)
        except (TypeError, ValueError, OverflowError):  # rows of different length, or no integers
            is_valid = False
        if not is_valid:
            lengths = sorted({len(row) if isinstance(row, (list, tuple)) else 0 for row in self.confusion})
            got = f"{len(self.confusion)} × {' or '.join(map(str, lengths))} values"
            raise self.error(f"confusion: expected {side} × {side} integers, got {got}")

    @cached_property
    def matrix(self) -> NDArray[np.int64]:
        """``confusion`` as an array, (0, 0) where there is none."""
        if not len(self.confusion):
            return np.zeros((0, 0), dtype=np.int64)
        # checked before the cast, which would round floats and turn booleans into counts
        counts = np.asarray(self.confusion)
        if counts.dtype.kind not in "iu":
            raise TypeError("counts are integers")
        return counts.astype(np.int64)
