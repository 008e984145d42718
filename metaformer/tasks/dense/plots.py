"""Precision-recall curves, and a page of predictions beside the truth: findings in, figures and images out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from ...render.annotate import class_color, font, hexadecimal
from ...render.numbers import shorten_all
from ...render.style import BLUE, GROUND, INK, MUTED, blank, house_style
from .findings import Curve, Findings, Shown

NAMED_UP_TO = 12
"""Classes whose curves are told apart by colors; of more, only the mean and the spread can be seen."""
_COLUMNS, _WIDTH, _GAP, _HEAD = 2, 720, 12, 26  # of the page of predictions, in pixels


@house_style()
def precision_recall(findings: Findings, classes: Sequence[str]) -> Figure:
    """Precision over recall at an overlap of .5, a panel for boxes and one for masks, a line for each class."""
    kinds = list(dict.fromkeys(curve.kind for curve in findings.curves))
    figure = blank(9.2 if len(kinds) > 1 else 6.4, 4.4)
    panels = figure.subplots(1, max(len(kinds), 1), squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=False):
        _panel(axes, [curve for curve in findings.curves if curve.kind == kind], classes)
        axes.set_title(f"{kind.capitalize()} at IoU .5")
    handles, names = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside right upper")
    return figure


def _panel(axes: Axes, curves: Sequence[Curve], classes: Sequence[str]) -> None:
    single = [curve for curve in curves if curve.label is not None]
    names = shorten_all(classes, 20)
    few = len(single) <= NAMED_UP_TO
    for curve in single:
        label = curve.label or 0
        name = names[label] if label < len(names) else f"class {label}"
        if few:
            axes.plot(_recalls(curve), curve.iou50, color=hexadecimal(class_color(label)), linewidth=1.4, label=name)
        else:
            axes.plot(_recalls(curve), curve.iou50, color=MUTED, linewidth=0.6, alpha=0.5)
    for curve in curves:
        if curve.label is None and len(single) > 1:
            axes.plot(_recalls(curve), curve.iou50, color=GROUND, linewidth=4.5)
            mean = f"mean of {len(single)} classes"
            axes.plot(_recalls(curve), curve.iou50, color=INK if few else BLUE, linewidth=2.4, label=mean)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")


def _recalls(curve: Curve) -> list[float]:
    return [place / max(len(curve.iou50) - 1, 1) for place in range(len(curve.iou50))]


def sparkline(curve: Curve) -> str:
    """The points of a small curve for an SVG of 100 × 24: recall from left to right, precision upwards."""
    values = curve.iou50[::4]
    last = max(len(values) - 1, 1)
    return " ".join(f"{100 * place / last:.0f},{23 - 22 * min(max(v, 0), 1):.1f}" for place, v in enumerate(values))


def save_predictions(samples: Sequence[Shown], path: Path) -> Path | None:
    """Write a PNG with each prediction beside its truth, two pairs in a row; None where no image can be read."""
    pairs = [(sample, sample.pair) for sample in samples]
    readable = [(sample, pair) for sample, pair in pairs if pair is not None]
    if not readable:
        return None
    rows = [readable[start : start + _COLUMNS] for start in range(0, len(readable), _COLUMNS)]
    heights = [max(_scaled(pair[0])[1] for _, pair in row) + _HEAD + _GAP for row in rows]
    page = Image.new("RGB", (_GAP + _COLUMNS * (_WIDTH + 2 * _GAP), sum(heights) + _GAP), "white")
    pen, top = ImageDraw.Draw(page), _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (sample, pair) in enumerate(row):
            _paste(page, pen, sample, pair, _GAP + column * (_WIDTH + 2 * _GAP), top)
        top += height
    page.save(path, format="PNG")
    return path


def _paste(
    page: Image.Image, pen: ImageDraw.ImageDraw, sample: Shown, pair: tuple[Image.Image, Image.Image], x: int, y: int
) -> None:
    half = _WIDTH // 2
    pen.text((x, y), f"prediction: {sample.words}", fill="black", font=font(13))
    pen.text((x + half + 4, y), "truth", fill="black", font=font(13))
    for place, image in enumerate(pair):
        page.paste(image.resize(_scaled(image)), (x + place * (half + 4), y + _HEAD - 4))


def _scaled(image: Image.Image) -> tuple[int, int]:
    """Width and height of half a pair."""
    width = _WIDTH // 2
    return width, max(1, min(2 * width, round(image.height * width / image.width)))
