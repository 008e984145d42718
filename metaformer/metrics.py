"""What a run's figures are called where people read them. No torch here: the command line and reports use it."""

from __future__ import annotations

NAMES = {
    "loss": "loss",
    "top1": "top-1",
    "top5": "top-5",
    "box_ap": "box AP",
    "box_ap50": "box AP50",
    "box_ap75": "box AP75",
    "mask_ap": "mask AP",
    "mask_ap50": "mask AP50",
    "mask_ap75": "mask AP75",
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
}
"""Figures by the name they have in ``metrics.csv`` and ``evaluation.json``; all but the loss are shares in [0, 1]."""


def figure_name(name: str) -> str:
    """``box AP50`` for ``box_ap50``; a figure without an entry has its underscores taken out."""
    return NAMES.get(name) or name.replace("_ap_", " AP ").replace("_ar_", " AR ").replace("_", " ")
