"""What evaluation.json says of a detector or a segmenter beyond its figures: tables, curves, images beside the truth.

It is read as it was written by ``dense_scoring``. Shares are in [0, 1]; images are JPEG as base64.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image

from ...render.numbers import percent

TASKS = ("detection", "segmentation")


@dataclass(frozen=True)
class Curve:
    """Precision at the recalls 0, .01, ... 1."""

    kind: str
    """``box`` or ``mask``."""
    label: int | None
    """A class, or None for the mean over the classes."""
    iou50: tuple[float, ...]
    """At an overlap of .5."""


@dataclass(frozen=True)
class Shown:
    """One image with the answer and with the truth drawn on it."""

    name: str
    prediction: str
    truth: str
    labels: tuple[int, ...]
    """Classes in either."""
    words: str
    """How right the answer is."""

    @cached_property
    def pair(self) -> tuple[Image.Image, Image.Image] | None:
        """Both in ``RGB``, or None when their bytes are not images."""
        try:
            return _opened(self.prediction), _opened(self.truth)
        except (OSError, ValueError, binascii.Error):
            return None


@dataclass(frozen=True)
class Findings:
    """What a detector or a segmenter came to, class by class and image by image."""

    task: str
    table: tuple[Mapping[str, Any], ...]
    """A row for each class that occurs, with its ``label``."""
    curves: tuple[Curve, ...]
    samples: tuple[Shown, ...]


def findings_from(data: Mapping[str, Any]) -> Findings | None:
    """The dense parts of an evaluation; None for classifiers. Raises what odd data raise."""
    task = data.get("task")
    if task not in TASKS:
        return None
    curves = (Curve(str(c["kind"]), c["label"], tuple(float(v) for v in c["iou50"])) for c in data.get("curves") or ())
    table = tuple({"label": int(row["label"])} | dict(row) for row in data.get("table") or ())
    return Findings(task, table, tuple(curves), tuple(_shown(entry) for entry in data.get("samples") or ()))


def _shown(entry: Mapping[str, Any]) -> Shown:
    labels = tuple(int(label) for label in entry.get("labels") or ())
    images = str(entry.get("prediction") or ""), str(entry.get("truth") or "")
    return Shown(str(entry.get("name", "")), *images, labels, _words(entry))


def _words(entry: Mapping[str, Any]) -> str:
    if "objects" in entry:
        found = f"{entry['found']} of {entry['objects']} found"
        return f"{found}, {entry['invented']} more" if entry["invented"] else found
    share = entry.get("pixel_accuracy")
    return "no labels" if share is None else f"{percent(share, 1)} of the pixels right"


def _opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True))).convert("RGB")
