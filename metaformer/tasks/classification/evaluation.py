"""``evaluation.json`` of a classifier. No torch here, because reports read it."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from PIL import Image

from ...errors import InputError, RunError
from ...records import Record
from ..confusion import ConfusionEvaluation


@dataclass(frozen=True, kw_only=True)
class Sample(Record):
    """One evaluated image with its most likely classes."""

    error: ClassVar[type[InputError]] = RunError
    renamed: ClassVar[Mapping[str, str]] = {"picture": "thumbnail"}

    name: str
    label: int
    top: tuple[tuple[int, float], ...] = ()
    """Pairs of class index and probability, most likely first."""
    thumbnail: str = ""
    """PNG as base64."""

    @property
    def predicted(self) -> int:
        """The most likely class; -1 where no class was recorded."""
        return self.top[0][0] if self.top else -1

    @property
    def probability(self) -> float:
        """The probability of the most likely class."""
        return self.top[0][1] if self.top else 0.0

    @property
    def right(self) -> bool:
        """Whether the most likely class is the true one."""
        return self.predicted == self.label

    @cached_property
    def image(self) -> Image.Image | None:
        """The thumbnail in RGB; None where its bytes are not an image."""
        try:
            return Image.open(io.BytesIO(base64.b64decode(self.thumbnail, validate=True))).convert("RGB")
        except (OSError, ValueError, binascii.Error):
            return None


@dataclass(frozen=True, kw_only=True)
class ClassificationEvaluation(ConfusionEvaluation):
    """Metrics, confusion matrix and samples of a classifier."""

    task: str = "classification"
    samples: tuple[Sample, ...] = ()
    """The most confident mistakes, then a random sample of the other images."""

    @property
    def wrong_first(self) -> list[Sample]:
        """Mistakes by decreasing confidence, then correct predictions by increasing confidence."""
        wrong = sorted((s for s in self.samples if not s.right), key=lambda s: -s.probability)
        return wrong + sorted((s for s in self.samples if s.right), key=lambda s: s.probability)


def read(data: Mapping[str, Any]) -> ClassificationEvaluation:
    """The record of a JSON object; raises ``RunError`` with the first invalid field."""
    current = ClassificationEvaluation.with_current_names(data)
    if "images" in current:
        return ClassificationEvaluation.from_dict(current)
    # early versions did not store the number of images
    evaluation = ClassificationEvaluation.from_dict(current | {"images": 0})
    return evaluation.with_changes(images=int(evaluation.matrix.sum()))
