"""COCO's metrics of boxes and masks. No torch here."""

from __future__ import annotations

from typing import Literal

from ...metrics import MetricDef

Kind = Literal["box", "mask"]
AREAS = ("", "small", "medium", "large")  # the order of faster-coco-eval's results
"""Objects of any area; below 32² pixels of the image; up to 96²; above."""
LIMITS = (1, 10, 100)
"""The maximum numbers of detections that count per image, best first."""


def coco_metrics(kind: Kind) -> tuple[MetricDef, ...]:
    """COCO's twelve metrics in its own order: ``box_ap``, ``box_ap50``, ..., ``box_ar_large``."""
    sizes = [area for area in AREAS if area]
    names = [("ap", "AP"), ("ap50", "AP50"), ("ap75", "AP75"), *((f"ap_{size}", f"AP {size}") for size in sizes)]
    names += [(f"ar_{limit}", f"AR {limit}") for limit in LIMITS] + [(f"ar_{size}", f"AR {size}") for size in sizes]
    shown = ("ap", "ap50")
    return tuple(MetricDef(name=f"{kind}_{n}", label=f"{kind} {label}", shown=n in shown) for n, label in names)


BOX, MASK = coco_metrics("box"), coco_metrics("mask")
METRICS = BOX + MASK
BOX_AP, MASK_AP = BOX[0], MASK[0]
