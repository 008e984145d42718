"""Free places for labels in a figure: boxes in points of type, and the nearest offset where a label meets nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """An upright rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def holds(self, other: Box) -> bool:
        """Whether the other lies inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.bottom <= other.bottom
            and other.top <= self.top
        )


def free_place(
    spot: tuple[float, float],
    size: tuple[float, float],
    offsets: Iterable[tuple[float, float]],
    frame: Box,
    taken: Sequence[Box],
) -> tuple[float, float, Box] | None:
    """The first offset where a label of ``size`` at ``spot`` stays in the frame and meets nothing, with its box.

    A label right of its spot (``dx > 0``) begins there, one left of it ends there, one above or below is centered.
    """
    (x, y), (width, height) = spot, size
    for dx, dy in offsets:
        left = x + dx - (width if dx < 0 else width / 2 if dx == 0 else 0)
        box = Box(left, y + dy - height / 2, left + width, y + dy + height / 2)
        if frame.holds(box) and not any(box.meets(other) for other in taken):
            return dx, dy, box
    return None
