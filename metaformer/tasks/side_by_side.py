"""Sample images with predictions and ground truth drawn on them: as records, as a PNG and in a report."""

from __future__ import annotations

import base64
import binascii
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from markupsafe import Markup
from PIL import Image, ImageDraw

from ..errors import InputError, RunError
from ..records import Record
from ..render.annotate import class_color, font, hexadecimal

SAMPLES = 12
SIDE = 480
"""Pixels of a sample's long side; larger images would make the page slow to load."""
_COLUMNS, _WIDTH, _GAP, _HEAD = 2, 720, 12, 26  # of the PNG, in pixels


@dataclass(frozen=True, kw_only=True)
class SideBySide(Record):
    """One image, once with the prediction and once with the ground truth drawn on it."""

    error: ClassVar[type[InputError]] = RunError
    renamed: ClassVar = {"truth": "ground_truth", "invented": "false_positives"}

    name: str = ""
    labels: tuple[int, ...] = ()
    """The classes in either drawing."""
    prediction: str = ""
    """JPEG as base64."""
    ground_truth: str = ""

    @property
    def words(self) -> str:
        """The result for this image in a few words."""
        return ""

    @cached_property
    def pair(self) -> tuple[Image.Image, Image.Image] | None:
        """Prediction and ground truth in ``RGB``; None where their bytes are not images."""
        try:
            return _read_jpeg(self.prediction), _read_jpeg(self.ground_truth)
        except (OSError, ValueError, binascii.Error):
            return None


def _read_jpeg(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True))).convert("RGB")


def jpeg_base64(image: Image.Image) -> str:
    """JPEG as base64."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


def sample_indices(indices: Sequence[int]) -> list[int]:
    """A random sample of up to ``SAMPLES`` indices in ascending order, always the same."""
    # a generator of its own: it neither depends on the run's random numbers nor changes them
    return sorted(random.Random(0).sample(indices, min(len(indices), SAMPLES)))


def swatch(classes: Sequence[str], label: int) -> dict[str, str]:
    """Name and color of a class, for legends and tables."""
    name = classes[label] if 0 <= label < len(classes) else f"class {label}"
    return {"name": name, "color": hexadecimal(class_color(label))}


def section(samples: Sequence[SideBySide], classes: Sequence[str], note: str = "") -> Markup:
    """The section of a report; ``note`` is printed after the word "prediction"."""
    from ..render.page import rendered  # imports matplotlib, which an evaluation does not need

    labels = sorted({label for sample in samples for label in sample.labels})
    context = {"samples": samples, "legend": [swatch(classes, label) for label in labels], "note": note}
    return rendered("metaformer.render", "side_by_side.html.j2", context)


def save(samples: Sequence[SideBySide], path: Path) -> Path | None:
    """Write a PNG with each prediction beside its ground truth, two pairs per row; None where no image can be read."""
    pairs = [(sample, sample.pair) for sample in samples]
    readable = [(sample, pair) for sample, pair in pairs if pair is not None]
    if not readable:
        return None
    rows = [readable[start : start + _COLUMNS] for start in range(0, len(readable), _COLUMNS)]
    heights = [max(_scaled(pair[0])[1] for _, pair in row) + _HEAD + _GAP for row in rows]
    page = Image.new("RGB", (_GAP + _COLUMNS * (_WIDTH + 2 * _GAP), sum(heights) + _GAP), "white")
    pen, top = ImageDraw.Draw(page), _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (sample, pair) in enumerate(row):
            _paste(page, pen, sample, pair, _GAP + column * (_WIDTH + 2 * _GAP), top)
        top += height
    page.save(path, format="PNG")
    return path


def _paste(
    page: Image.Image,
    pen: ImageDraw.ImageDraw,
    sample: SideBySide,
    pair: tuple[Image.Image, Image.Image],
    x: int,
    y: int,
) -> None:
    half = _WIDTH // 2
    pen.text((x, y), f"prediction: {sample.words}", fill="black", font=font(13))
    pen.text((x + half + 4, y), "ground truth", fill="black", font=font(13))
    for place, image in enumerate(pair):
        page.paste(image.resize(_scaled(image)), (x + place * (half + 4), y + _HEAD - 4))


def _scaled(image: Image.Image) -> tuple[int, int]:
    """Width and height of half a pair."""
    width = _WIDTH // 2
    # very tall images are squeezed to twice the width
    return width, max(1, min(2 * width, round(image.height * width / image.width)))
