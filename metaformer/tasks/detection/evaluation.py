"""``evaluation.json`` of a detector. No torch here: reports read it. Shares are in [0, 1]."""

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
"""Score from which a detection is drawn in a sample."""


@dataclass(frozen=True, kw_only=True)
class ObjectRow(Record):
    """How well the objects of one class were found; masks only where masks were judged."""

    error: ClassVar[type[InputError]] = RunError

    label: int
    objects: int
    """In the ground truth, crowds left out."""
    box_ap: float
    box_ap50: float
    box_ap75: float
    box_ar: float
    """Recall with 100 objects an image, mean over the overlaps."""
    mask_ap: float | None = None
    mask_ap50: float | None = None
    mask_ap75: float | None = None
    mask_ar: float | None = None


@dataclass(frozen=True, kw_only=True)
class Curve(Record):
    """Precision at the recalls 0, .01, ... 1."""

    error: ClassVar[type[InputError]] = RunError

    kind: Kind
    label: int | None = None
    """A class, or None for the mean over the classes."""
    iou50: tuple[float, ...]
    """At an overlap of .5."""
    mean: tuple[float, ...] = ()
    """The mean over COCO's overlaps."""


@dataclass(frozen=True, kw_only=True)
class Sample(SideBySide):
    """One image; a detection is right where its class fits and it overlaps an object by at least .5, each once."""

    objects: int
    """In the ground truth."""
    found: int
    """Objects that a detection is right about."""
    false_positives: int
    """Detections that are not right."""

    @property
    def words(self) -> str:
        """``3 of 4 found, 1 false positive``."""
        text = f"{self.found} of {self.objects} found"
        plural = "s" if self.false_positives != 1 else ""
        return f"{text}, {self.false_positives} false positive{plural}" if self.false_positives else text


@dataclass(frozen=True, kw_only=True)
class DetectionEvaluation(Evaluation):
    """Metrics, a row for each class that occurs, curves and samples of a detector."""

    task: str = "detection"
    table: tuple[ObjectRow, ...] = ()
    curves: tuple[Curve, ...] = ()
    samples: tuple[Sample, ...] = ()


def read(data: Mapping[str, Any]) -> DetectionEvaluation:
    """From JSON; raises ``RunError`` with the path of a field that does not fit."""
    # 0.1.0 wrote the segmenters' fields too, empty
    return DetectionEvaluation.from_dict({name: value for name, value in data.items() if name != "confusion"})
