"""``evaluation.json`` of a segmenter. Shares are in [0, 1]. No torch here, because reports read it."""

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
    """Metrics of one class."""

    error: ClassVar[type[InputError]] = RunError
    renamed: ClassVar[Mapping[str, str]] = {"answered": "predicted"}

    label: int
    pixels: int
    """Pixels of the class in the ground truth."""
    predicted: int
    """Pixels with the class in the predictions."""
    iou: float | None
    """Intersection over union of ground truth and predictions; None where the class occurs in neither."""
    accuracy: float | None
    """The recall of the class; None where the ground truth does not have it."""


@dataclass(frozen=True, kw_only=True)
class Sample(SideBySide):
    """One image."""

    pixel_accuracy: float | None = None
    """The share of correct pixels among the labeled ones; None where there are none."""

    @property
    def words(self) -> str:
        """``93.1 % of the pixels correct``."""
        if self.pixel_accuracy is None:
            return "no labels"
        return f"{percent(self.pixel_accuracy, 1)} of the pixels correct"


@dataclass(frozen=True, kw_only=True)
class SegmentationEvaluation(ConfusionEvaluation):
    """Metrics, a row for each class that occurs, a confusion matrix of pixels and samples of a segmenter."""

    task: str = "segmentation"
    table: tuple[ClassRow, ...] = ()
    samples: tuple[Sample, ...] = ()


def read(data: Mapping[str, Any]) -> SegmentationEvaluation:
    """The record of a JSON object; raises ``RunError`` with the first invalid field."""
    # version 0.1.0 wrote the fields of detection too, empty
    return SegmentationEvaluation.from_dict({name: value for name, value in data.items() if name != "curves"})
