"""Templates to one self-contained HTML file: escaped, no scripts, nothing fetched from anywhere.

The page's own security policy forbids every request, so that a mistake in a template cannot let one through.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from ..run.report.files import Evaluation
from ..tasks.classification.report import predictions_figure
from ..tasks.dense.report import dense_parts
from . import numbers
from .confusion import confusion_figure, most_confused, worst_classes
from .style import inline_svg, save_png

_RANKED = 10  # rows of each table of mistakes
_SAMPLES = 48  # images on a page


def write_page(path: Path, template: str, context: dict[str, Any]) -> Path:
    """Fill ``template`` and write it; every value is escaped except drawings made here."""
    path.write_text(_environment().get_template(template).render(context), encoding="utf-8")
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("metaformer.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(numbers, name) for name in ("count", "duration", "percent", "short")}
    environment.filters["gauge_width"] = _gauge_width
    return environment


def _gauge_width(share: object) -> str:
    """A share as the width of a bar in percent, kept in range."""
    return f"{100 * min(max(share, 0.0), 1.0):.1f}" if numbers.known(share) else "0"


def drawing(figure: Figure, label: str, png: Path) -> Markup:
    """Save the figure as a PNG and give it back as inline SVG."""
    save_png(figure, png)
    figure.set_layout_engine("none")  # laid out by the first drawing, which takes most of the time
    # Safe to insert as it stands: names in a drawing are outlines of letters, not text.
    return Markup(inline_svg(figure, label))


def evaluation_parts(evaluation: Evaluation | None, folder: Path) -> dict[str, Any]:
    """What a page shows of an evaluation; confusion.png, predictions.png and, of a detector, precision_recall.png are
    written to ``folder``."""
    parts: dict[str, Any] = dict.fromkeys(("evaluation", "confusion", "pairs", "worst", "samples", "dense"))
    if evaluation is None:
        return parts
    if evaluation.dense is not None:
        parts["dense"] = dense_parts(evaluation.dense, evaluation.classes, evaluation.confusion, folder, drawing)
        return parts
    parts |= {"evaluation": evaluation, "samples": evaluation.wrong_first[:_SAMPLES]}
    if evaluation.confusion.size:
        matrix, classes = evaluation.confusion, evaluation.classes
        parts["confusion"] = drawing(confusion_figure(matrix, classes), "Confusion matrix", folder / "confusion.png")
        parts["pairs"] = most_confused(matrix, classes, _RANKED)
        parts["worst"] = worst_classes(matrix, classes, _RANKED)
    if evaluation.samples:
        save_png(predictions_figure(evaluation), folder / "predictions.png")
    return parts
