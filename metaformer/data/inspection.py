"""What is in one part of a dataset: counts, sizes, a histogram of its classes, and the files that cannot be used.

This is the record that all tasks share. Each task counts its own targets in ``tasks/NAME/inspect.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypedDict

import numpy as np

from .dataset import BadFile
from .verify import Size

PartName = Literal["train", "val"]


@dataclass(frozen=True, kw_only=True)
class PartSummary:
    """What is in one part of a dataset."""

    name: PartName
    images: int
    smallest: Size | None
    """Height and width of the image with the fewest pixels; None where no size is known."""
    median: Size | None
    """The median height and the median width."""
    largest: Size | None
    counts: tuple[int, ...]
    """By label: images, objects or pixels, whatever the task counts."""
    occurs_in: tuple[int, ...]
    """By label: images that it occurs in."""
    bad: tuple[BadFile, ...] = ()
    """Files that turned out to be unreadable while they were counted."""

    @property
    def details(self) -> Mapping[str, str]:
        """What the task knows beyond this, as text by name."""
        return {}

    @property
    def note(self) -> str:
        """A sentence on how the part was read, or an empty string."""
        return ""


def count_labels(labels: Iterable[int], classes: int) -> tuple[int, ...]:
    """How often each label occurs."""
    return tuple(map(int, np.bincount(np.fromiter(labels, np.int64), minlength=classes)))


class SizeRange(TypedDict):
    """The fields of ``PartSummary`` on sizes."""

    smallest: Size | None
    median: Size | None
    largest: Size | None


def size_range(sizes: Sequence[Size]) -> SizeRange:
    """The smallest, median and largest of the images' heights and widths."""
    if not sizes:
        return {"smallest": None, "median": None, "largest": None}
    middle = round(median(height for height, _ in sizes)), round(median(width for _, width in sizes))
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    return {"smallest": by_area[0], "median": middle, "largest": by_area[-1]}
