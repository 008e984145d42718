"""Learning curves of a run, and the axes that other curves share: metrics in, matplotlib figures out.

Shares are drawn in percent. A figure never fails for want of data: what was not measured is simply not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from ...metrics import figure_name
from ...render.numbers import capital, compact, known, percent
from ...render.style import (
    AMBER,
    BLUE,
    GREEN,
    GROUND,
    MUTED,
    PURPLE,
    SERIES,
    SKY,
    VERMILION,
    blank,
    house_style,
    tick_text,
)
from .files import Best, Figures, Metrics

# One look for a set of images, in every panel.
_TRAINING: dict[str, Any] = {"color": AMBER, "label": "training"}
_VALIDATION: dict[str, Any] = {"color": BLUE, "label": "validation"}
_AVERAGED: dict[str, Any] = {"color": GREEN, "label": "validation, averaged weights (EMA)", "linestyle": (0, (4, 2))}
_BESIDE = {
    "mask_ap": ("mask_ap50", "box_ap", "box_ap50"),
    "box_ap": ("box_ap50", "box_ap75"),
    "miou": ("pixel_accuracy", "mean_accuracy"),
}
"""What is drawn in thinner lines beside the figure that decides."""
_BEST: dict[str, Any] = {"color": MUTED, "linestyle": (0, (1, 2)), "linewidth": 1.2}


@house_style()
def learning_curves(metrics: Metrics) -> Figure:
    """Loss and the deciding figure (%) side by side over the epochs, the learning rate as a thin strip below."""
    figure = blank(9.2, 4.6)
    grid = figure.add_gridspec(2, 2, height_ratios=(5, 1), hspace=0.04)
    loss, shares = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    rate = figure.add_subplot(grid[1, :])
    _panel(loss, metrics, "Loss", ("train_loss", "loss", "ema_loss"))
    judged, word = metrics.judged, figure_name(metrics.judged)
    names = (f"train_{judged}", judged, f"ema_{judged}")
    _panel(shares, metrics, f"{capital(word)} (%)", names, factor=100)
    for name, color in zip(_BESIDE.get(judged, ()), (PURPLE, SKY, VERMILION), strict=False):
        if metrics.has(name):
            values = 100 * metrics.column(name)
            _line(shares, metrics.epochs, values, color=color, label=figure_name(name), linewidth=1.2)
    _line(rate, metrics.epochs, metrics.column("lr"), color=MUTED, linewidth=1.5)
    rate.set_title("Learning rate", fontsize=9)
    highest = np.nanmax(metrics.column("lr")) if metrics.has("lr") else 1.0
    rate.set_ylim(0, 1.08 * highest or 1.0)
    rate.set_yticks([0, float(f"{highest:.3g}")])
    tick_text(rate.yaxis, compact)
    for axes in (loss, shares, rate):
        _epoch_axis(axes, metrics.epochs)
    if metrics.best is not None:
        _mark_best(metrics, metrics.best, shares, (loss, shares, rate))
    _legend(figure, (loss, shares))
    return figure


def _panel(axes: Axes, metrics: Metrics, title: str, names: Sequence[str], factor: float = 1.0) -> None:
    for name, look in zip(names, (_TRAINING, _VALIDATION, _AVERAGED), strict=True):
        if metrics.has(name):
            _line(axes, metrics.epochs, factor * metrics.column(name), **look)
    if factor == 100 and axes.get_ylim()[1] > 100:
        axes.set_ylim(top=100.6)
    axes.set_title(title)
    axes.set_xlabel("epoch")


def _line(axes: Axes, epochs: Figures, values: Figures, dots_up_to: int = 30, **look: Any) -> None:
    """A line that shows lonely points too: the only epoch, or one between two that are missing."""
    few = len(epochs) <= dots_up_to
    lonely = np.isfinite(values).sum() < 2 or np.isnan(values).any()
    marker: dict[str, Any] = {"marker": "o", "markersize": 3 if few else 2} if few or lonely else {}
    axes.plot(epochs, values, **marker | look)


def _epoch_axis(axes: Axes, epochs: Figures) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(epochs):
        room = max(0.4, 0.02 * float(epochs[-1] - epochs[0]))
        axes.set_xlim(epochs[0] - room, epochs[-1] + room)


def _mark_best(metrics: Metrics, best: Best, shares: Axes, panels: Sequence[Axes]) -> None:
    for axes in panels:
        axes.axvline(best.epoch, zorder=1, **_BEST)
    color = GREEN if best.averaged else BLUE
    shares.plot([best.epoch], [100 * best.share], "o", color=color, markersize=7, markeredgecolor=GROUND, zorder=5)
    late = best.epoch > np.mean(metrics.epochs[[0, -1]])
    shares.annotate(
        f"{percent(best.share)}\nepoch {best.epoch}",
        (best.epoch, 100 * best.share),
        xytext=(-10 if late else 10, -12),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        color=color,
        weight="bold",
        bbox={"facecolor": GROUND, "edgecolor": "none", "alpha": 0.8, "pad": 2},
        zorder=6,
    )


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    handles: dict[str, Line2D] = {}
    for axes in panels:
        handles |= {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    if handles:
        figure.legend(
            [*handles.values(), Line2D([], [], **_BEST)],
            [*handles, "best epoch"],
            loc="outside upper left",
            ncols=4,
            handlelength=2.4,
            columnspacing=1.6,
        )


def series_colors(number: int) -> list[str]:
    """One color a run, in the palette's order."""
    return [SERIES[i % len(SERIES)] for i in range(number)]


# Half an error in a thousand images: beyond it the scale says nothing more.
_LEAST_ERROR = 0.05
_ACCURACIES = (0, 20, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.9)


def accuracy_axis(axes: Axes, accuracies: Sequence[float]) -> None:
    """A y axis in percent whose steps shrink with the error."""
    axes.set_yscale(
        "function",
        functions=(
            lambda accuracy: -np.log10(np.maximum(100 - np.asarray(accuracy), 0) + _LEAST_ERROR),
            lambda step: 100 + _LEAST_ERROR - 10 ** -np.asarray(step, dtype=float),
        ),
    )
    seen = [value for value in accuracies if known(value)] or [0.0, 90.0]
    low, high = max(0.0, min(seen) - 0.25 * (100 - min(seen))), max(seen)
    high = 100 - 0.7 * (100 - high) if high < 99.9 else 100
    axes.set_ylim(0 if low < 5 else min(low, high - 1), high)
    inside = [tick for tick in _ACCURACIES if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    axes.yaxis.set_major_locator(FixedLocator(inside) if len(inside) > 2 else MaxNLocator(5))
    tick_text(axes.yaxis, lambda value: f"{value:.4g}")
