"""A metric as data: its name in files, its label for people, its unit, and which direction is better. No torch here.

Each task lists its own (``tasks/NAME``); the trainer, the command line and the reports read them there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan
from typing import Literal

from .records import Record


@dataclass(frozen=True, kw_only=True)
class MetricDef(Record):
    """One metric of a task."""

    name: str
    """Its name in ``metrics.csv`` and ``evaluation.json``, such as ``box_ap50``."""
    label: str
    """Its name for people, such as ``box AP50``."""
    unit: Literal["share", "nats", "count"] = "share"
    """``share``: in [0, 1], printed in percent; ``nats``: a loss; ``count``: a plain number."""
    better: Literal["higher", "lower"] = "higher"
    """Which direction is an improvement."""
    shown: bool = False
    """Whether it is printed after each epoch and drawn in the learning curves."""

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether ``value`` improves on ``than``; everything but NaN improves on None."""
        # NaN compares false with everything, so a first NaN could never be replaced
        if isnan(value):
            return False
        if than is None or isnan(than):
            return True
        return value > than if self.better == "higher" else value < than

    def best(self, values: Iterable[float]) -> float | None:
        """The best of the values, without NaN; None where there is none."""
        best: float | None = None
        for value in values:
            if self.is_better(value, best):
                best = value
        return best


LOSS = MetricDef(name="loss", label="loss", unit="nats", better="lower", shown=True)
"""The evaluation loss, which most tasks have."""
