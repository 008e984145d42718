"""What a run's page shows of a detector or a segmenter: curves, a table of classes, predictions beside the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from ...metrics import figure_name
from ...render.annotate import class_color, hexadecimal
from ...render.confusion import confusion_figure, row_shares
from ...render.numbers import count, percent
from .findings import Findings
from .plots import precision_recall, save_predictions, sparkline

WHOLE_TABLE = 40
"""Classes up to which the table stands open on the page."""
_PAIRS = 10


def dense_parts(
    findings: Findings,
    classes: Sequence[str],
    confusion: np.ndarray,
    folder: Path,
    drawing: Callable[[Figure, str, Path], Markup],
) -> dict[str, Any]:
    """The context of ``dense.html.j2``; precision_recall.png, confusion.png and predictions.png go to ``folder``.

    ``drawing`` brings a figure onto the page, as ``page.drawing`` does.
    """
    parts: dict[str, Any] = {"task": findings.task, "curves": None, "confusion": None, "pairs": [], "folded": False}
    if findings.curves:
        figure = precision_recall(findings, classes)
        parts["curves"] = drawing(figure, "Precision and recall", folder / "precision_recall.png")
    if confusion.size:
        figure = confusion_figure(confusion, classes, pixels=True)
        parts["confusion"] = drawing(figure, "Confusion matrix", folder / "confusion.png")
        parts["pairs"] = _pairs(confusion, classes)
    save_predictions(findings.samples, folder / "predictions.png")
    parts["heads"], parts["rows"] = class_table(findings, classes)
    parts["folded"] = len(parts["rows"]) > WHOLE_TABLE
    parts["samples"] = findings.samples
    seen = sorted({label for sample in findings.samples for label in sample.labels})
    parts["legend"] = [_swatch(classes, label) for label in seen]
    return parts


def _swatch(classes: Sequence[str], label: int) -> dict[str, str]:
    name = classes[label] if 0 <= label < len(classes) else f"class {label}"
    return {"name": name, "color": hexadecimal(class_color(label))}


def class_table(findings: Findings, classes: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Heads and rows, the most frequent class first: its name and color, how much of it there is, its figures."""
    if findings.task == "segmentation":
        return _pixel_table(findings, classes)
    shown = [name for name in _OBJECT_FIGURES if any(name in row for row in findings.table)]
    lines = {curve.label: sparkline(curve) for curve in reversed(findings.curves)}  # of boxes, which come first
    rows = [
        _swatch(classes, row["label"])
        | {
            "amount": count(row.get("objects")),
            "values": [percent(row.get(name), 1) for name in shown],
            "share": row.get(shown[0]) if shown else None,
            "line": lines.get(row["label"]),
        }
        for row in sorted(findings.table, key=lambda row: -(row.get("objects") or 0))
    ]
    return ["Objects", *(_head(name) for name in shown)], rows


_OBJECT_FIGURES = ("box_ap", "box_ap50", "box_ar", "mask_ap", "mask_ap50", "mask_ar")


def _head(name: str) -> str:
    return f"{name.split('_')[0]} AR" if name.endswith("_ar") else figure_name(name)


def _pixel_table(findings: Findings, classes: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
    total = sum(row.get("pixels") or 0 for row in findings.table) or 1
    rows = [
        _swatch(classes, row["label"])
        | {
            "amount": percent((row.get("pixels") or 0) / total, 2),
            "values": [percent(row.get("iou"), 1), percent(row.get("accuracy"), 1)],
            "share": row.get("iou"),
            "line": None,
        }
        for row in sorted(findings.table, key=lambda row: -(row.get("pixels") or 0))
    ]
    return ["Of all pixels", "IoU", "Accuracy"], rows


def _pairs(confusion: np.ndarray, classes: Sequence[str]) -> list[dict[str, str]]:
    """The pairs that most pixels were mistaken in."""
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    shares, total = row_shares(confusion), max(int(confusion.sum()), 1)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:_PAIRS]
    found = [(int(place) // len(mistakes), int(place) % len(mistakes)) for place in order]
    return [
        {
            "true": classes[true],
            "predicted": classes[predicted],
            "of_class": percent(float(shares[true, predicted]), 1),
            "of_all": percent(float(mistakes[true, predicted]) / total, 2),
        }
        for true, predicted in found
        if mistakes[true, predicted]
    ]
