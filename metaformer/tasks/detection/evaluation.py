"""``evaluation.json`` of a detector. Shares are in [0, 1]. No torch here, because reports read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import InputError, RunError
from ...evaluation import Evaluation
from ...records import Record
from ..side_by_side import SideBySide
from .metrics import Kind

DRAWN_FROM = 0.3
"""The minimum score of a detection that is drawn in a sample."""


@dataclass(frozen=True, kw_only=True)
class ObjectRow(Record):
    """Metrics of one class; those of masks only where masks were evaluated."""

    error: ClassVar[type[InputError]] = RunError

    label: int
    objects: int
    """Objects in the ground truth, without crowds."""
    box_ap: float
    box_ap50: float
    box_ap75: float
    box_ar: float
    """Recall with up to 100 detections per image, mean over the overlaps."""
    mask_ap: float | None = None
    mask_ap50: float | None = None
    mask_ap75: float | None = None
    mask_ar: float | None = None


@dataclass(frozen=True, kw_only=True)
class Curve(Record):
    """Precision at recalls 0, .01, ... 1."""

    error: ClassVar[type[InputError]] = RunError

    kind: Kind
    label: int | None = None
    """The class; None for the mean over the classes."""
    iou50: tuple[float, ...]
    """For an overlap (IoU) of .5."""
    mean: tuple[float, ...] = ()
    """The mean over COCO's ten overlaps."""


@dataclass(frozen=True, kw_only=True)
class Sample(SideBySide):
    """One image. A detection is correct where an object of its class has an IoU of at least .5 with it; each object
    matches once."""

    objects: int
    """Objects in the ground truth."""
    found: int
    """Objects with a correct detection."""
    false_positives: int
    """Detections that are not correct."""

    @property
    def words(self) -> str:
        """``3 of 4 found, 1 false positive``."""
        text = f"{self.found} of {self.objects} found"
        plural = "s" if self.false_positives != 1 else ""
        return f"{text}, {self.false_positives} false positive{plural}" if self.false_positives else text


@dataclass(frozen=True, kw_only=True)
class DetectionEvaluation(Evaluation):
    """Metrics, a row for each class in the ground truth, curves and samples of a detector."""

    task: str = "detection"
    table: tuple[ObjectRow, ...] = ()
    curves: tuple[Curve, ...] = ()
    samples: tuple[Sample, ...] = ()


def read(data: Mapping[str, Any]) -> DetectionEvaluation:
    """The record of a JSON object; raises ``RunError`` with the first invalid field."""
    # version 0.1.0 wrote the fields of segmentation too, empty
    return DetectionEvaluation.from_dict({name: value for name, value in data.items() if name != "confusion"})
