"""The metrics of classifiers. No torch here."""

from __future__ import annotations

from ...metrics import LOSS, MetricDef

TOP1 = MetricDef(name="top1", label="top-1", shown=True)
TOP5 = MetricDef(name="top5", label="top-5")
METRICS = (LOSS, TOP1, TOP5)
