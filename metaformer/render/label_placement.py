"""Free places for labels in a figure: boxes in points, and the first offset where a label overlaps no other box."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """An axis-aligned rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two overlap."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def contains(self, other: Box) -> bool:
        """Whether the other lies inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.bottom <= other.bottom
            and other.top <= self.top
        )


def free_place(
    point: tuple[float, float],
    size: tuple[float, float],
    offsets: Iterable[tuple[float, float]],
    frame: Box,
    occupied: Sequence[Box],
) -> tuple[float, float, Box] | None:
    """The first offset at which a label of ``size`` for ``point`` is inside the frame and free, with its box.

    A label to the right of its point (``dx > 0``) starts at the offset, one to the left ends there, one above or below
    is centered. None where no offset is free.
    """
    (x, y), (width, height) = point, size
    for dx, dy in offsets:
        left = x + dx - (width if dx < 0 else width / 2 if dx == 0 else 0)
        box = Box(left, y + dy - height / 2, left + width, y + dy + height / 2)
        if frame.contains(box) and not any(box.overlaps(other) for other in occupied):
            return dx, dy, box
    return None
