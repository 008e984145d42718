"""Axes and colors that several figures share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from .numbers import known
from .style import SERIES, tick_text


def series_colors(number: int) -> list[str]:
    """A color for each series, in the palette's order; it repeats after eight."""
    return [SERIES[i % len(SERIES)] for i in range(number)]


# In percent: half an error in a thousand images. It keeps the logarithm finite at 100 % accuracy.
_LEAST_ERROR = 0.05
_TICKS = (0, 20, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.9)


def accuracy_axis(axes: Axes, accuracies: Sequence[float]) -> None:
    """Make the y axis logarithmic in the error (100 - accuracy, in percent), so that 98 and 99 % stay apart."""
    # a scale of our own: matplotlib's logit has no end at 0 and 100 %, where runs do end
    axes.set_yscale(
        "function",
        functions=(
            lambda accuracy: -np.log10(np.maximum(100 - np.asarray(accuracy), 0) + _LEAST_ERROR),
            lambda step: 100 + _LEAST_ERROR - 10 ** -np.asarray(step, dtype=float),
        ),
    )
    finite = [value for value in accuracies if known(value)] or [0.0, 90.0]
    # margins as shares of the error, which are equal lengths on this scale
    low, high = max(0.0, min(finite) - 0.25 * (100 - min(finite))), max(finite)
    high = 100 - 0.7 * (100 - high) if high < 99.9 else 100
    axes.set_ylim(0 if low < 5 else min(low, high - 1), high)
    inside = [tick for tick in _TICKS if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    axes.yaxis.set_major_locator(FixedLocator(inside) if len(inside) > 2 else MaxNLocator(5))
    tick_text(axes.yaxis, lambda value: f"{value:.4g}")
