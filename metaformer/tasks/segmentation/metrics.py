"""The metrics of segmenters. No torch here."""

from __future__ import annotations

from ...metrics import LOSS, MetricDef

MIOU = MetricDef(name="miou", label="mIoU", shown=True)
METRICS = (
    LOSS,
    MIOU,
    MetricDef(name="pixel_accuracy", label="pixel accuracy", shown=True),
    MetricDef(name="mean_accuracy", label="mean accuracy"),
)
