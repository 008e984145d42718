"""Axes and colors that several kinds of figures share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from .numbers import known
from .style import SERIES, tick_text


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
