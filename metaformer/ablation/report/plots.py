"""Figures of a sweep's results: the metric per variant and over MACs, measured against published order.

Shares are in percent. Most variants are close together and a few far worse. The axis covers the many; the others are
marked at its edge with their number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator
from scipy.stats import rankdata

from ...metrics import MetricDef
from ...render.label_placement import Box, free_place
from ...render.numbers import compact, shorten
from ...render.style import BLUE, GROUND, HAIR, INK, MUTED, SERIES, VERMILION, blank, house_style, tick_text
from .formatting import digits_of, heading, signed
from .results import SweepResults, SweepRow

_WIDTH = 9.2
_MARKERS = "osD^vPX*"
_NAME = 36  # letters of a variant's name beside a figure


@dataclass(frozen=True)
class Scale:
    """The range of a metric that an axis shows."""

    low: float
    high: float
    metric: MetricDef

    @classmethod
    def between(cls, low: float, high: float, metric: MetricDef) -> Scale:
        """A range within what is possible: a share has no value beyond 100 %, but its dot needs some room there."""
        return cls(max(low, 0.0), min(high, 100.6), metric) if metric.unit == "share" else cls(low, high, metric)

    def clip(self, value: float) -> float:
        """The value on the axis that is nearest to one that is too bad for it; other values as they are."""
        return max(value, self.low) if self.metric.better == "higher" else min(value, self.high)

    def holds(self, value: float) -> bool:
        """Whether a value is not too bad for the axis."""
        return self.clip(value) == value

    def wider(self, values: Iterable[float]) -> Scale:
        """The same range and all of ``values``."""
        ends = [self.low, self.high, *values]
        room = 0.02 * (max(ends) - min(ends))
        low = self.low if min(ends) == self.low else min(ends) - room
        high = self.high if max(ends) == self.high else max(ends) + room
        return Scale.between(low, high, self.metric)


def close_scale(values: Iterable[float], metric: MetricDef) -> Scale:
    """From the best value to the last one that is no far outlier.

    An outlier is more than ten median distances worse than the median. Unlike the standard deviation this still works
    when a third of few variants failed.
    """
    sign = 1.0 if metric.better == "higher" else -1.0
    ordered = np.sort(sign * np.array(list(values), dtype=float))  # from the worst to the best
    middle = float(np.median(ordered))
    least = 0.3 if metric.unit == "share" else 0.01 * abs(middle) or 1e-3  # so that equal values get an axis as well
    distance = max(float(np.median(np.abs(ordered - middle))), least)
    inside = ordered[ordered >= middle - 10 * distance]
    room = max(0.08 * (inside[-1] - inside[0]), least)
    low, high = sorted((sign * float(inside[0] - room), sign * float(inside[-1] + room)))
    return Scale.between(low, high, metric)


@house_style()
def metric_per_variant(sweep: SweepResults) -> Figure:
    """A line per variant: mean with its standard deviation, and the seeds as dots; beside it the published numbers.

    The dashed line is the base.
    """
    published = {row.name: row.variant.published for row in sweep.rows if row.variant.published is not None}
    groups = {name: [row.name for row in rows] for name, rows in sweep.groups.items()}
    return _panels({_title(sweep): sweep}, groups, published)


@house_style()
def side_by_side(
    sweeps: Mapping[str, SweepResults], groups: Mapping[str, Sequence[str]], published: Mapping[str, float]
) -> Figure:
    """The same for several sweeps: a panel each under its label, then the published numbers."""
    titles = {label: f"{shorten(label, 28)}, {heading(sweep.metric)}" for label, sweep in sweeps.items()}
    return _panels({titles[label]: sweep for label, sweep in sweeps.items()}, groups, published)


def _panels(
    sweeps: Mapping[str, SweepResults], groups: Mapping[str, Sequence[str]], published: Mapping[str, float]
) -> Figure:
    """``sweeps`` by the title of their panel."""
    places, heads = _lines(groups)
    figure = blank(max(_WIDTH, 3.6 + 2.4 * len(sweeps)), 0.9 + 0.23 * (max(places.values()) + 1))
    widths = [5.0] * len(sweeps) + ([3.0] if published else [])
    panels = list(figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0])
    for axes, (title, sweep) in zip(panels, sweeps.items(), strict=False):
        _measured_panel(axes, sweep, places, title, with_notes=len(sweeps) == 1)  # narrow panels have no room for notes
    bases = {sweep.files.plan.base for sweep in sweeps.values()}
    if published:
        metric = next(iter(sweeps.values())).metric
        _published_panel(panels[-1], published, places, bases, metric)
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    _name_lines(panels[0], places, heads, bases)
    return figure


def _name_lines(
    axes: Axes, places: Mapping[str, float], heads: Sequence[tuple[float, str]], bases: Collection[str]
) -> None:
    axes.set_yticks(list(places.values()), [shorten(name, _NAME) for name in places])
    axes.set_ylim(max(places.values()) + 0.7, -0.9)
    for place, head in heads:
        axes.annotate(
            head, (0, place), xycoords=("axes fraction", "data"), xytext=(-6, 0), textcoords="offset points",
            ha="right", va="center", color=MUTED, fontsize=8.5, style="italic",
        )  # fmt: skip
    for tick, name in zip(axes.get_yticklabels(), places, strict=True):
        tick.set_color(INK)
        tick.set_fontweight("bold" if name in bases else "normal")


def _lines(groups: Mapping[str, Sequence[str]]) -> tuple[dict[str, float], list[tuple[float, str]]]:
    """The height of each variant, and of each group's heading above it; a group of one has none."""
    places: dict[str, float] = {}
    heads, at = [], 0.0
    for group, names in groups.items():
        if len(names) > 1 and group and len(groups) > 1:
            heads.append((at, group))
            at += 1
        for name in names:
            places[name] = at
            at += 1
        at += 0.5
    return places, heads


def _measured_panel(axes: Axes, sweep: SweepResults, places: Mapping[str, float], title: str, with_notes: bool) -> None:
    rows = [row for row in sweep.rows if row.summary.mean is not None]
    means = {row.name: row.summary.mean for row in rows if row.summary.mean is not None}
    axes.set_title(title)
    if not means:
        return
    scale = close_scale(means.values(), sweep.metric)
    scale = scale.wider([end for row in rows if scale.holds(means[row.name]) for end in _extent(row)])
    _value_axis(axes, scale, means.get(sweep.files.plan.base))
    for row in rows:
        mean, place = means[row.name], places[row.name]
        color = VERMILION if row.diverged else INK if row.kind == "base" else BLUE
        if not scale.holds(mean):
            note = f", {row.notes[0]}" if row.diverged and with_notes else ""
            _mark_outlier(axes, scale, place, mean, color, note)
            continue
        axes.errorbar(
            [mean], [place], xerr=row.summary.deviation, fmt="o", markersize=6.5, color=color, capsize=3,
            elinewidth=1.4, markeredgecolor=GROUND, zorder=4,
        )  # fmt: skip
        seeds = list(row.values.values())
        if len(seeds) > 1:
            axes.plot(seeds, [place + 0.32] * len(seeds), "o", markersize=3, color=color, alpha=0.55, markeredgewidth=0)


def _extent(row: SweepRow) -> list[float]:
    """Everything that is drawn of a variant: its seeds and both ends of its error bar."""
    mean, deviation = row.summary.mean or 0.0, row.summary.deviation or 0.0
    return [*row.values.values(), mean - deviation, mean + deviation]


def _title(sweep: SweepResults) -> str:
    one = len(sweep.files.plan.seeds) == 1
    return f"Measured {heading(sweep.metric)}{', one seed' if one else ': mean, standard deviation, seeds'}"


def _value_axis(axes: Axes, scale: Scale, base: float | None) -> None:
    axes.set_xlim(scale.low, scale.high)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    tick_text(axes.xaxis, lambda value: f"{value:g}")
    axes.grid(False, axis="y")
    if base is not None:
        axes.axvline(base, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2)


def _mark_outlier(axes: Axes, scale: Scale, place: float, value: float, color: str, note: str = "") -> None:
    """Mark a value that is too bad for the axis at its edge, with its number."""
    left = scale.metric.better == "higher"
    edge, transform = 0.012 if left else 0.988, axes.get_yaxis_transform()
    marker = "<" if left else ">"
    axes.plot([edge], [place], marker, transform=transform, markersize=6, color=color, clip_on=False, zorder=4)
    axes.annotate(
        f"{value:.{digits_of(scale.metric, rough=True)}f}{note}", (edge, place), xycoords=transform,
        xytext=(8 if left else -8, 0), textcoords="offset points", ha="left" if left else "right", va="center",
        color=color, fontsize=8.5,
    )  # fmt: skip


def _published_panel(
    axes: Axes, published: Mapping[str, float], places: Mapping[str, float], bases: Collection[str], metric: MetricDef
) -> None:
    scale = close_scale(published.values(), metric)
    axes.set_title(f"Published{' (%)' if metric.unit == 'share' else ''}")
    _value_axis(axes, scale, published.get(next(iter(bases))) if len(bases) == 1 else None)
    for name, value in published.items():
        if scale.holds(value):
            axes.plot(
                [value], [places[name]], "o", markersize=6, markerfacecolor=GROUND, markeredgecolor=INK,
                markeredgewidth=1.3, zorder=4,
            )  # fmt: skip
        else:
            _mark_outlier(axes, scale, places[name], value, MUTED)


# Named points.


@dataclass(frozen=True)
class _Look:
    """Color and marker of each group."""

    groups: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, sweep: SweepResults) -> _Look:
        others = [name for name in sweep.groups if name != sweep.base.variant.group]
        looks = {name: (SERIES[i % len(SERIES)], _MARKERS[i % len(_MARKERS)]) for i, name in enumerate(others)}
        return cls({sweep.base.variant.group: (INK, "o")} | looks)

    def plot(self, axes: Axes, row: SweepRow, x: float, y: float) -> None:
        color, marker = self.groups[row.variant.group]
        size = 9 if row.kind == "base" else 7
        axes.plot([x], [y], marker, color=color, markersize=size, markeredgecolor=GROUND, zorder=4, clip_on=False)

    def legend(self, figure: Figure) -> None:
        handles = [
            Line2D([], [], color=color, marker=marker, linestyle="", markersize=7, label=name or "others")
            for name, (color, marker) in self.groups.items()
        ]
        if len(handles) > 1:
            figure.legend(handles=handles, loc="outside upper left", ncols=8, handletextpad=0.2, columnspacing=1.4)


@house_style()
def metric_over_macs(sweep: SweepResults) -> Figure:
    """The metric's mean over multiply-adds; the names are in a column, and a thin line leads to each point."""
    rows = [row for row in sweep.rows if row.summary.mean is not None and row.macs]
    figure = blank(_WIDTH, max(3.6, 1.2 + 0.2 * len(rows)))
    axes = figure.subplots()
    axes.set_title(f"Mean {heading(sweep.metric)} over multiply-adds per image")
    axes.set_xlabel("MACs")
    if not rows:
        return figure
    scale = close_scale([row.summary.mean for row in rows if row.summary.mean is not None], sweep.metric)
    axes.set_ylim(scale.low, scale.high)
    axes.yaxis.set_major_locator(MaxNLocator(7))
    _macs_axis(axes, [row.macs or 0 for row in rows])
    look = _Look.of(sweep)
    for row in rows:
        look.plot(axes, row, row.macs or 0, scale.clip(row.summary.mean or 0))
    look.legend(figure)
    _name_column(axes, rows, scale)
    return figure


def _macs_axis(axes: Axes, macs: Sequence[int]) -> None:
    axes.set_xscale("log")
    low, high = min(macs), max(macs)
    room = max((high / low) ** 0.08, 1.06)
    axes.set_xlim(low / room, high * room)
    factors = (1, 1.5, 2, 3, 5, 7) if high / low < 5 else (1, 2, 5) if high / low < 100 else (1,)
    steps = [float(factor * 10**power) for power in range(3, 15) for factor in factors]
    inside = [step for step in steps if low / room <= step <= high * room]
    axes.xaxis.set_major_locator(FixedLocator(inside) if len(inside) > 1 else MaxNLocator(4))
    axes.xaxis.set_minor_formatter("")
    tick_text(axes.xaxis, compact)


def _name_column(axes: Axes, rows: Sequence[SweepRow], scale: Scale) -> None:
    """Names in the order of the points from top to bottom, moved apart where they would overlap."""
    ordered = sorted(rows, key=lambda row: -(row.summary.mean or 0))
    wanted = [(scale.clip(row.summary.mean or 0) - scale.low) / (scale.high - scale.low) for row in ordered]
    arrow, digits = "↓" if scale.metric.better == "higher" else "↑", digits_of(scale.metric, rough=True)
    for row, height in zip(ordered, spread(wanted, 1 / max(len(rows) - 0.5, 15)), strict=True):
        mean = row.summary.mean or 0
        off = "" if scale.holds(mean) else f"  {arrow}"
        axes.annotate(
            f"{shorten(row.name, _NAME)}  {mean:.{digits}f}{off}", (row.macs or 0, scale.clip(mean)),
            xytext=(1.05, height), textcoords="axes fraction", va="center", ha="left", fontsize=8.5, color=INK,
            weight="bold" if row.kind == "base" else "normal", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": HAIR, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 5,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Falling heights in [0, 1], at least ``gap`` apart where that fits, near the wanted ones."""
    placed: list[float] = []
    for height in wanted:
        placed.append(min(height, placed[-1] - gap) if placed else min(height, 1.0))
    floor = 0.0
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = max(placed[i], floor)
        floor = placed[i] + gap
    return placed


# Against the published numbers.

_SIDE = 5.6
_OFFSETS = [offset for far in range(0, 60, 4) for offset in ((9, -far), (-9, far), (9, far), (-9, -far), (0, far + 13))]


@house_style()
def against_published(sweep: SweepResults) -> Figure | None:
    """Rank by measured mean over rank by published number, the best at the top right; None below three variants."""
    rows = sweep.with_published
    if len(rows) < 3 or sweep.ranks is None:
        return None
    sign = -1 if sweep.metric.better == "higher" else 1  # rank 1 is the best
    measured = rankdata([sign * (row.summary.mean or 0) for row in rows])
    published = rankdata([sign * (row.variant.published or 0) for row in rows])
    figure = blank(_WIDTH, _SIDE)
    axes = figure.subplots()
    axes.set_title(_rank_title(sweep))
    axes.set_xlabel("rank by published number (1 is best)")
    axes.set_ylabel("rank by measured mean")
    ends = (len(rows) + 0.8, 0.2)
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlim(ends[0], ends[1] - 0.32 * len(rows))  # room for the names of the best
    axes.set_ylim(*ends)
    steps = range(1, len(rows) + 1, 1 if len(rows) < 10 else 2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(steps))
    look = _Look.of(sweep)
    for row, x, y in zip(rows, published, measured, strict=True):
        look.plot(axes, row, x, y)
    look.legend(figure)
    _name_points(axes, [row.name for row in rows], list(zip(published, measured, strict=True)))
    return figure


def _rank_title(sweep: SweepResults) -> str:
    ranks = sweep.ranks
    assert ranks is not None
    within = f", 95 % interval {signed(ranks.interval[0])} to {signed(ranks.interval[1])}" if ranks.interval else ""
    return f"Measured and published order: Spearman's ρ = {signed(ranks.rho)}{within}"


def _name_points(axes: Axes, names: Sequence[str], spots: Sequence[tuple[float, float]]) -> None:
    """Write each name at the nearest free place around its point."""
    width, height = 72 * (_WIDTH - 0.7), 72 * (_SIDE - 1.2)  # of the axes in points of type
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [to_axes.transform(spot) * (width, height) for spot in spots]
    taken = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    diagonal = [to_axes.transform((rank, rank)) * (width, height) for rank in np.linspace(0.2, len(spots) + 0.8, 200)]
    taken += [Box(x - 2, y - 2, x + 2, y + 2) for x, y in diagonal]
    for name, spot, (x, y) in zip(names, spots, places, strict=True):
        short = shorten(name, _NAME)
        found = free_place((x, y), (4.9 * len(short), 11), _OFFSETS, Box(0, 0, width, height), taken)
        dx, dy, box = found or (9, 0, Box(x, y, x, y))
        taken.append(box)
        axes.annotate(
            short, spot, xytext=(dx, dy), textcoords="offset points", va="center", fontsize=8.5, color=INK,
            ha="left" if dx > 0 else "right" if dx < 0 else "center",
        ).set_in_layout(False)  # fmt: skip
