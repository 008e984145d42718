"""``evaluation.json`` of a segmenter. No torch here: reports read it. Shares are in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, RunError
from ...evaluation import Evaluation
from ...records import Record
from ...render.numbers import percent
from ..side_by_side import SideBySide


@dataclass(frozen=True, kw_only=True)
class ClassRow(Record):
    """How well the pixels of one class were found."""

    error: ClassVar[type[InputError]] = RunError
    renamed: ClassVar[Mapping[str, str]] = {"answered": "predicted"}

    label: int
    pixels: int
    """In the ground truth."""
    predicted: int
    """Pixels that were given this class."""
    iou: float | None
    """Right pixels, of those that have the class or were given it; None where there are none."""
    accuracy: float | None
    """Right pixels, of those that have the class."""


@dataclass(frozen=True, kw_only=True)
class Sample(SideBySide):
    """One image."""

    pixel_accuracy: float | None = None
    """Of its labeled pixels; None where it has none."""

    @property
    def words(self) -> str:
        """``93.1 % of the pixels right``."""
        return "no labels" if self.pixel_accuracy is None else f"{percent(self.pixel_accuracy, 1)} of the pixels right"


@dataclass(frozen=True, kw_only=True)
class SegmentationEvaluation(Evaluation):
    """Metrics, a row for each class that occurs, confusions and samples of a segmenter."""

    task: str = "segmentation"
    table: tuple[ClassRow, ...] = ()
    confusion: Sequence[Sequence[int]] = ()
    """(K, K) pixels, rows are true classes and columns predicted ones."""
    samples: tuple[Sample, ...] = ()

    def check(self) -> None:
        """The confusions are those of the classes."""
        sides = {len(self.confusion), *map(len, self.confusion)}
        square = not self.confusion or sides == {len(self.classes)}
        self.expect(square, "confusion", f"{len(self.classes)} × {len(self.classes)} counts", f"{sorted(sides)}")

    @property
    def matrix(self) -> NDArray[np.int64]:
        """``confusion`` as an array, (0, 0) where there is none."""
        return np.asarray(self.confusion or np.zeros((0, 0)), dtype=np.int64)


def read(data: Mapping[str, Any]) -> SegmentationEvaluation:
    """From JSON; raises ``RunError`` with the path of a field that does not fit."""
    # 0.1.0 wrote the detectors' fields too, empty
    return SegmentationEvaluation.from_dict({name: value for name, value in data.items() if name != "curves"})
