"""Learning curves of a run: metrics.csv in, a matplotlib figure out.

Shares are drawn in percent. Values that were not measured are left out, so a figure can be drawn at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ...metrics import MetricDef
from ...render.numbers import capital, compact, metric_text
from ...render.style import (
    AMBER,
    BLUE,
    GREEN,
    GROUND,
    MUTED,
    PURPLE,
    SKY,
    VERMILION,
    blank,
    house_style,
    tick_text,
)
from .files import Best, MetricsTable, Values

# the same style in every panel
_TRAINING: dict[str, Any] = {"color": AMBER, "label": "training"}
_VALIDATION: dict[str, Any] = {"color": BLUE, "label": "validation"}
_AVERAGED: dict[str, Any] = {"color": GREEN, "label": "validation, averaged weights (EMA)", "linestyle": (0, (4, 2))}
_BEST: dict[str, Any] = {"color": MUTED, "linestyle": (0, (1, 2)), "linewidth": 1.2}


@house_style()
def learning_curves(table: MetricsTable, metrics: Sequence[MetricDef], primary: MetricDef) -> Figure:
    """Loss and the primary metric side by side over the epochs, with the learning rate in a narrow panel below."""
    figure = blank(9.2, 4.6)
    grid = figure.add_gridspec(2, 2, height_ratios=(5, 1), hspace=0.04)
    loss, values = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    rate = figure.add_subplot(grid[1, :])
    _panel(loss, table, "Loss", ("train_loss", "loss", "ema_loss"))
    factor = 100 if primary.unit == "share" else 1
    title = f"{capital(primary.label)}{' (%)' if factor == 100 else ''}"
    _panel(values, table, title, (f"train_{primary.name}", primary.name, f"ema_{primary.name}"), factor)
    # other metrics share the primary metric's axis, so only those with its unit
    others = [m for m in metrics if m.shown and m.unit == primary.unit and m != primary and table.has(m.name)]
    for metric, color in zip(others, (PURPLE, SKY, VERMILION), strict=False):  # no more than three
        column = factor * table.column(metric.name)
        _line(values, table.epochs, column, color=color, label=metric.label, linewidth=1.2)
    _line(rate, table.epochs, table.column("lr"), color=MUTED, linewidth=1.5)
    rate.set_title("Learning rate", fontsize=9)
    highest = np.nanmax(table.column("lr")) if table.has("lr") else 1.0
    rate.set_ylim(0, 1.08 * highest or 1.0)  # a rate of 0 all along would give an empty axis
    rate.set_yticks([0, float(f"{highest:.3g}")])
    tick_text(rate.yaxis, compact)
    for axes in (loss, values, rate):
        _epoch_axis(axes, table.epochs)
    best = table.best(primary)
    if best is not None:
        _mark_best(table, best, values, (loss, values, rate), primary)
    _legend(figure, (loss, values))
    return figure


def _panel(axes: Axes, table: MetricsTable, title: str, names: Sequence[str], factor: float = 1.0) -> None:
    for name, style in zip(names, (_TRAINING, _VALIDATION, _AVERAGED), strict=True):
        if table.has(name):
            _line(axes, table.epochs, factor * table.column(name), **style)
    if factor == 100 and axes.get_ylim()[1] > 100:
        axes.set_ylim(top=100.6)  # matplotlib's margin reaches above 100 %; a line at 100 still needs half its width
    axes.set_title(title)
    axes.set_xlabel("epoch")


def _line(axes: Axes, epochs: Values, values: Values, markers_up_to: int = 30, **style: Any) -> None:
    few = len(epochs) <= markers_up_to
    # a line between two missing values, or of one epoch, has no length and needs a marker to be visible
    has_gaps = np.isfinite(values).sum() < 2 or np.isnan(values).any()
    marker: dict[str, Any] = {"marker": "o", "markersize": 3 if few else 2} if few or has_gaps else {}
    axes.plot(epochs, values, **marker | style)


def _epoch_axis(axes: Axes, epochs: Values) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(epochs):
        margin = max(0.4, 0.02 * float(epochs[-1] - epochs[0]))  # some width even for a single epoch
        axes.set_xlim(epochs[0] - margin, epochs[-1] + margin)


def _mark_best(table: MetricsTable, best: Best, values: Axes, panels: Sequence[Axes], primary: MetricDef) -> None:
    for axes in panels:
        axes.axvline(best.epoch, zorder=1, **_BEST)
    color = GREEN if best.averaged else BLUE
    height = 100 * best.value if primary.unit == "share" else best.value
    values.plot([best.epoch], [height], "o", color=color, markersize=7, markeredgecolor=GROUND, zorder=5)
    late = best.epoch > np.mean(table.epochs[[0, -1]])  # the label goes to the side with more room
    values.annotate(
        f"{metric_text(primary, best.value)}\nepoch {best.epoch}",
        (best.epoch, height),
        # below a maximum and above a minimum, where the curve is not
        xytext=(-10 if late else 10, -12 if primary.better == "higher" else 12),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top" if primary.better == "higher" else "bottom",
        color=color,
        weight="bold",
        bbox={"facecolor": GROUND, "edgecolor": "none", "alpha": 0.8, "pad": 2},
        zorder=6,
    )


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    handles: dict[str, Line2D] = {}
    for axes in panels:
        # matplotlib gives lines without a label one with an underscore
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
