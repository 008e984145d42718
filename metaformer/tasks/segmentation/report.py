"""The report's sections on a segmenter: a table of classes, a confusion matrix, sample predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ...render.confusion import confusion_figure, row_shares
from ...render.numbers import percent
from ...render.page import drawing, rendered
from .. import side_by_side
from ..class_table import class_table
from .evaluation import SegmentationEvaluation

_PAIRS = 10


def sections(evaluation: SegmentationEvaluation, folder: Path) -> list[Markup]:
    """HTML sections with headings; also writes confusion.png and predictions.png to ``folder``."""
    matrix, classes = evaluation.matrix, evaluation.classes
    sections = [class_table(["Of all pixels", "IoU", "Accuracy"], class_lines(evaluation))]
    if matrix.size:
        figure = confusion_figure(matrix, classes, pixels=True)
        context = {
            "confusion": drawing(figure, "Confusion matrix", folder / "confusion.png"),
            "pairs": most_confused_pixels(matrix, classes),
        }
        sections.append(rendered(__package__, "confusion.html.j2", context))
    if evaluation.samples:
        side_by_side.save(evaluation.samples, folder / "predictions.png")
        sections.append(side_by_side.section(evaluation.samples, classes))
    return sections


def class_lines(evaluation: SegmentationEvaluation) -> list[dict[str, Any]]:
    """A line for each class, the most frequent first."""
    total = sum(row.pixels for row in evaluation.table) or 1
    return [
        side_by_side.swatch(evaluation.classes, row.label)
        | {
            "amount": percent(row.pixels / total, 2),
            "values": [percent(row.iou, 1), percent(row.accuracy, 1)],
            "share": row.iou,
            "line": None,
        }
        for row in sorted(evaluation.table, key=lambda row: -row.pixels)
    ]


def most_confused_pixels(confusion: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, str]]:
    """The pairs of classes with the most misclassified pixels."""
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    shares, total = row_shares(confusion), max(int(confusion.sum()), 1)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:_PAIRS]
    pairs = [divmod(int(cell), len(mistakes)) for cell in order]
    return [
        {
            "true": classes[true],
            "predicted": classes[predicted],
            "of_class": percent(float(shares[true, predicted]), 1),
            "of_all": percent(float(mistakes[true, predicted]) / total, 2),
        }
        for true, predicted in pairs
        if mistakes[true, predicted]
    ]
