"""The report's sections on a detector: precision and recall, a table of classes, sample predictions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...render.numbers import count, percent
from ...render.page import drawing, rendered
from .. import side_by_side
from ..class_table import class_table
from .evaluation import DRAWN_FROM, DetectionEvaluation
from .plots import precision_recall, sparkline

COLUMNS = {
    "box_ap": "box AP",
    "box_ap50": "box AP50",
    "box_ar": "box AR",
    "mask_ap": "mask AP",
    "mask_ap50": "mask AP50",
    "mask_ar": "mask AR",
}


def sections(evaluation: DetectionEvaluation, folder: Path) -> list[Markup]:
    """HTML sections with headings; also writes precision_recall.png and predictions.png to ``folder``."""
    sections = []
    if evaluation.curves:
        figure = precision_recall(evaluation.curves, evaluation.classes)
        curves = drawing(figure, "Precision and recall", folder / "precision_recall.png")
        sections.append(rendered(__package__, "curves.html.j2", {"curves": curves}))
    sections.append(class_table(*class_lines(evaluation)))
    if evaluation.samples:
        side_by_side.save(evaluation.samples, folder / "predictions.png")
        note = f", objects with a score of at least {DRAWN_FROM:.0%}"
        sections.append(side_by_side.section(evaluation.samples, evaluation.classes, note))
    return sections


def class_lines(evaluation: DetectionEvaluation) -> tuple[list[str], list[dict[str, Any]]]:
    """Column heads, and a line for each class, the most frequent first."""
    rows = {row.label: asdict(row) for row in sorted(evaluation.table, key=lambda row: -row.objects)}
    shown = [name for name in COLUMNS if any(row[name] is not None for row in rows.values())]
    # where a class has curves of boxes and of masks, the boxes' comes first and so wins in reverse order
    curves = {curve.label: sparkline(curve) for curve in reversed(evaluation.curves)}
    lines = [
        side_by_side.swatch(evaluation.classes, label)
        | {
            "amount": count(row["objects"]),
            "values": [percent(row[name], 1) for name in shown],
            "share": row[shown[0]] if shown else None,
            "line": curves.get(label),
        }
        for label, row in rows.items()
    ]
    return ["Objects", *(COLUMNS[name] for name in shown)], lines
