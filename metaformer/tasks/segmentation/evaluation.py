"""``evaluation.json`` of a segmenter. No torch here: reports read it. Shares are in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import InputError, RunError
from ...records import Record
from ...render.numbers import percent
from ..confusion import ConfusionEvaluation
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
class SegmentationEvaluation(ConfusionEvaluation):
    """Metrics, a row for each class that occurs, confusions of pixels and samples of a segmenter."""

    task: str = "segmentation"
    table: tuple[ClassRow, ...] = ()
    samples: tuple[Sample, ...] = ()


def read(data: Mapping[str, Any]) -> SegmentationEvaluation:
    """From JSON; raises ``RunError`` with the path of a field that does not fit."""
    # 0.1.0 wrote the detectors' fields too, empty
    return SegmentationEvaluation.from_dict({name: value for name, value in data.items() if name != "curves"})
