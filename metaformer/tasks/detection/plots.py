"""Precision-recall curves of a detector: curves in, a figure out."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...render.annotate import class_color, hexadecimal
from ...render.numbers import shorten_all
from ...render.style import BLUE, GROUND, INK, MUTED, blank, house_style
from .evaluation import Curve

NAMED_UP_TO = 12
"""The maximum number of classes with colors and names; with more, the curves are gray and only the mean is named."""


@house_style()
def precision_recall(curves: Sequence[Curve], classes: Sequence[str]) -> Figure:
    """Precision over recall for an IoU of .5: a panel for boxes and one for masks, a line for each class."""
    kinds = list(dict.fromkeys(curve.kind for curve in curves))
    figure = blank(9.2 if len(kinds) > 1 else 6.4, 4.4)
    panels = figure.subplots(1, max(len(kinds), 1), squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=False):
        _panel(axes, [curve for curve in curves if curve.kind == kind], classes)
        axes.set_title(f"{kind.capitalize()} at IoU .5")
    handles, names = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside right upper")
    return figure


def _panel(axes: Axes, curves: Sequence[Curve], classes: Sequence[str]) -> None:
    of_classes = [curve for curve in curves if curve.label is not None]
    names = shorten_all(classes, 20)
    few = len(of_classes) <= NAMED_UP_TO
    for curve in of_classes:
        label = curve.label or 0
        name = names[label] if label < len(names) else f"class {label}"
        if few:
            axes.plot(_recalls(curve), curve.iou50, color=hexadecimal(class_color(label)), linewidth=1.4, label=name)
        else:
            axes.plot(_recalls(curve), curve.iou50, color=MUTED, linewidth=0.6, alpha=0.5)
    for curve in curves:
        if curve.label is None and len(of_classes) > 1:
            axes.plot(_recalls(curve), curve.iou50, color=GROUND, linewidth=4.5)  # an outline, to stand out
            mean = f"mean of {len(of_classes)} classes"
            axes.plot(_recalls(curve), curve.iou50, color=INK if few else BLUE, linewidth=2.4, label=mean)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")


def _recalls(curve: Curve) -> list[float]:
    return [index / max(len(curve.iou50) - 1, 1) for index in range(len(curve.iou50))]


def sparkline(curve: Curve) -> str:
    """The points of a small curve for an SVG of 100 × 24: recall to the right, precision upwards."""
    values = curve.iou50[::4]  # 26 of 101 points, since a page may have hundreds of curves
    last = max(len(values) - 1, 1)
    # y points down in SVG; a margin of one keeps the line inside
    return " ".join(f"{100 * index / last:.0f},{23 - 22 * min(max(v, 0), 1):.1f}" for index, v in enumerate(values))
