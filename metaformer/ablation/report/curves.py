"""Learning curves of a sweep: a panel per group with the base in gray, a line per variant, a band over its seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from ...render.axes import accuracy_axis, series_colors
from ...render.numbers import shorten
from ...render.style import MUTED, blank, house_style
from ...run.report.files import Values
from .formatting import factor, heading
from .results import SweepResults, SweepRow

_ACROSS = 3
_LINES = 6  # per panel, which has as many colors; a larger group takes several panels


@house_style()
def learning_curves(sweep: SweepResults) -> Figure | None:
    """The validation metric over the epochs, the error of shares on a log scale; None before the first epoch."""
    panels = _panels(sweep)
    if not panels:
        return None
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = blank(9.2, 0.2 + 3.3 * down)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    base = curve_of(sweep.base)
    for axes, (title, rows) in zip(grid.flat, panels, strict=False):
        _panel(axes, title, rows, base, sweep.base.name)
    for axes in grid[:, 0]:
        axes.set_ylabel(f"validation {heading(sweep.metric)} over epochs")
    if sweep.metric.unit == "share":
        accuracy_axis(grid[0, 0], [value for row in sweep.rows for value in _values(row).ravel()])
        _thin_ticks(grid[0, 0])
    return figure


def _thin_ticks(axes: Axes) -> None:
    """Drop ticks that would overlap, from the highest down: the logarithmic scale crowds low accuracies."""
    kept: list[float] = []
    for tick in sorted(axes.yaxis.get_majorticklocs(), reverse=True):
        height = axes.transData.transform((0, tick))[1] / axes.bbox.height
        if all(abs(height - axes.transData.transform((0, other))[1] / axes.bbox.height) > 0.06 for other in kept):
            kept.append(float(tick))
    axes.yaxis.set_major_locator(FixedLocator(kept))


def _panels(sweep: SweepResults) -> list[tuple[str, list[SweepRow]]]:
    """Title and rows of each panel, without rows that have no epoch; the base is drawn in every panel."""
    panels = []
    for group, rows in sweep.groups.items():
        drawn = [row for row in rows if row.kind != "base" and curve_of(row) is not None]
        parts = [drawn[i : i + _LINES] for i in range(0, len(drawn), _LINES)]
        for i, part in enumerate(parts):
            panels.append((f"{group or 'variants'}{f' ({i + 1} of {len(parts)})' if len(parts) > 1 else ''}", part))
    return panels or ([(sweep.base.name, [])] if curve_of(sweep.base) is not None else [])


def _panel(
    axes: Axes, title: str, rows: Sequence[SweepRow], base: tuple[Values, Values, Values, Values] | None, name: str
) -> None:
    axes.set_title(shorten(title, 34))
    axes.tick_params(labelbottom=True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if base is not None:
        _line(axes, base, MUTED, name)
    for color, row in zip(series_colors(len(rows)), rows, strict=True):
        curve = curve_of(row)
        if curve is not None:
            _line(axes, curve, color, row.name)
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.04, -0.1), ncols=2, fontsize=7.5, handlelength=1.2, labelspacing=0.25,
        columnspacing=0.9, handletextpad=0.5, borderaxespad=0,
    )  # fmt: skip


def _line(axes: Axes, curve: tuple[Values, Values, Values, Values], color: str, name: str) -> None:
    epochs, mean, low, high = curve
    axes.fill_between(epochs, low, high, color=color, alpha=0.16, linewidth=0)
    dots = {"marker": "o", "markersize": 3.5} if len(epochs) == 1 else {}
    axes.plot(epochs, mean, color=color, linewidth=1.5, label=shorten(name, 22), **dots)  # type: ignore[arg-type]


def curve_of(row: SweepRow) -> tuple[Values, Values, Values, Values] | None:
    """Epochs, mean, lowest and highest value of the seeds that reached them; None without an epoch."""
    values = _values(row)
    reached = np.isfinite(values).any(axis=0)
    if not reached.any():
        return None
    seen = values[:, reached]
    epochs = np.asarray(np.flatnonzero(reached) + 1, dtype=np.float64)
    mean = np.asarray(np.nanmean(seen, axis=0), dtype=np.float64)
    return epochs, mean, np.nanmin(seen, axis=0), np.nanmax(seen, axis=0)


def _values(row: SweepRow) -> Values:
    """(seeds, epochs) values, NaN after a seed's last epoch."""
    runs = [files.metrics for files in row.files if len(files.metrics)]
    # Runs that diverged or were stopped have fewer epochs than the others.
    longest = max((int(run.epochs.max()) for run in runs), default=0)
    values = np.full((max(len(runs), 1), longest), np.nan)
    for line, run in zip(values, runs, strict=False):
        line[run.epochs.astype(int) - 1] = factor(row.metric) * run.column(row.metric.name)
    return values
