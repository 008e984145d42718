"""The part of an evaluation that says which classes are taken for which. No torch here: reports read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class ConfusionEvaluation(Evaluation):
    """An evaluation with a confusion matrix, of K classes."""

    confusion: Sequence[Sequence[int]] = ()
    """(K, K) counts, rows are true classes and columns predicted ones; empty for very many classes."""

    def check(self) -> None:
        """The confusions are those of the classes."""
        side = len(self.classes)
        try:
            right = not len(self.confusion) or self.matrix.shape == (side, side)
        except (TypeError, ValueError, OverflowError):  # rows of different length, or no integers
            right = False
        if not right:
            lengths = sorted({len(row) if isinstance(row, (list, tuple)) else 0 for row in self.confusion})
            came = f"{len(self.confusion)} × {' or '.join(map(str, lengths))} values"
            raise self.error(f"confusion: expected {side} × {side} integers, got {came}")

    @cached_property
    def matrix(self) -> NDArray[np.int64]:
        """``confusion`` as an array, (0, 0) where there is none."""
        if not len(self.confusion):
            return np.zeros((0, 0), dtype=np.int64)
        counts = np.asarray(self.confusion)
        if counts.dtype.kind not in "iu":
            raise TypeError("counts are integers")
        return counts.astype(np.int64)
