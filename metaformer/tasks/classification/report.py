"""The report's sections on a classifier: confusion matrix, mistakes, sample predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...render.confusion import confusion_figure, most_confused, worst_classes
from ...render.page import drawing, rendered
from ...render.style import save_png
from .evaluation import ClassificationEvaluation
from .plots import predictions_figure

_RANKED = 10  # rows of each table of mistakes
_SAMPLES = 48  # images on a page


def sections(evaluation: ClassificationEvaluation, folder: Path) -> list[Markup]:
    """HTML sections with headings; also writes confusion.png and predictions.png to ``folder``."""
    sections = []
    matrix, classes = evaluation.matrix, evaluation.classes
    if matrix.size:
        mistakes: dict[str, Any] = {
            "confusion": drawing(confusion_figure(matrix, classes), "Confusion matrix", folder / "confusion.png"),
            "pairs": most_confused(matrix, classes, _RANKED),
            "worst": worst_classes(matrix, classes, _RANKED),
        }
        sections.append(rendered(__package__, "confusion.html.j2", mistakes))
    if evaluation.samples:
        save_png(predictions_figure(evaluation), folder / "predictions.png")
        context = {"evaluation": evaluation, "samples": evaluation.wrong_first[:_SAMPLES]}
        sections.append(rendered(__package__, "samples.html.j2", context))
    return sections
