"""Figures of a sweep's outcome: accuracy per variant, accuracy over MACs, measured against published order.

Accuracies are top-1 in percent. Most variants lie close together and a few far below: the axis belongs to the many, and
those below it stand at its edge with their number.
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

from ...render.label_placement import Box, free_place
from ...render.numbers import compact, shorten
from ...render.style import BLUE, GROUND, HAIR, INK, MUTED, SERIES, VERMILION, blank, house_style, tick_text
from .formatting import signed
from .results import SweepResults, SweepRow

_WIDTH = 9.2
_MARKERS = "osD^vPX*"
_NAME = 36  # letters of a variant's name beside a figure


@dataclass(frozen=True)
class Scale:
    """The part of the accuracies that an axis shows."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value is on the axis and not below it."""
        return value >= self.low

    def wider(self, values: Iterable[float]) -> Scale:
        """The same and all of ``values``, percentages as they are."""
        ends = [self.low, self.high, *values]
        room = 0.02 * (max(ends) - min(ends))
        low = self.low if min(ends) == self.low else min(ends) - room
        high = self.high if max(ends) == self.high else max(ends) + room
        return Scale(max(low, 0.0), min(high, 100.6))


def close_scale(values: Iterable[float]) -> Scale:
    """From the best down to the last value that is no far outlier: ten median distances below the median, which holds
    also where a third of few variants failed."""
    ordered = np.sort(np.array(list(values), dtype=float))
    middle = np.median(ordered)
    distance = max(float(np.median(np.abs(ordered - middle))), 0.3)
    inside = ordered[ordered >= middle - 10 * distance]
    room = max(0.08 * (inside[-1] - inside[0]), 0.3)
    return Scale(max(float(inside[0] - room), 0.0), min(float(inside[-1] + room), 100.6))


@house_style()
def accuracies(sweep: SweepResults) -> Figure:
    """A line a variant, groups apart: mean with its standard deviation, the seeds as dots; beside it what is in print.

    The dashed line is the base.
    """
    printed = {row.name: row.variant.published for row in sweep.rows if row.variant.published is not None}
    groups = {name: [row.name for row in rows] for name, rows in sweep.groups.items()}
    return _panels({_title(sweep): sweep}, groups, printed)


@house_style()
def side_by_side(
    sweeps: Mapping[str, SweepResults], groups: Mapping[str, Sequence[str]], printed: Mapping[str, float]
) -> Figure:
    """The same for several sweeps: a panel each under its label, names by group, then what is in print."""
    return _panels({f"{shorten(label, 28)} (%)": sweep for label, sweep in sweeps.items()}, groups, printed)


def _panels(
    sweeps: Mapping[str, SweepResults], groups: Mapping[str, Sequence[str]], printed: Mapping[str, float]
) -> Figure:
    """``sweeps`` by the title of their panel."""
    places, heads = _lines(groups)
    figure = blank(max(_WIDTH, 3.6 + 2.4 * len(sweeps)), 0.9 + 0.23 * (max(places.values()) + 1))
    widths = [5.0] * len(sweeps) + ([3.0] if printed else [])
    panels = list(figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0])
    for axes, (title, sweep) in zip(panels, sweeps.items(), strict=False):
        _measured_panel(axes, sweep, places, title, told=len(sweeps) == 1)
    bases = {sweep.files.base for sweep in sweeps.values()}
    if printed:
        _printed_panel(panels[-1], printed, places, bases)
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


def _measured_panel(axes: Axes, sweep: SweepResults, places: Mapping[str, float], title: str, told: bool) -> None:
    """``told`` says how many runs broke down beside a variant below the axis; narrow panels have no room for it."""
    rows = [row for row in sweep.rows if row.summary.mean is not None]
    means = {row.name: row.summary.mean for row in rows if row.summary.mean is not None}
    axes.set_title(title)
    if not means:
        return
    scale = close_scale(means.values())
    scale = scale.wider([end for row in rows if scale.holds(means[row.name]) for end in _reach(row)])
    _accuracy_axis(axes, scale, means.get(sweep.files.base))
    for row in rows:
        mean, place = means[row.name], places[row.name]
        color = VERMILION if row.broken else INK if row.kind == "base" else BLUE
        if not scale.holds(mean):
            broken = f", {row.notes[0]}" if row.broken and told else ""
            _below(axes, scale, place, f"{mean:.1f}{broken}", color)
            continue
        axes.errorbar(
            [mean], [place], xerr=row.summary.deviation, fmt="o", markersize=6.5, color=color, capsize=3,
            elinewidth=1.4, markeredgecolor=GROUND, zorder=4,
        )  # fmt: skip
        seeds = list(row.accuracies.values())
        if len(seeds) > 1:
            axes.plot(seeds, [place + 0.32] * len(seeds), "o", markersize=3, color=color, alpha=0.55, markeredgewidth=0)


def _reach(row: SweepRow) -> list[float]:
    """All that is drawn of a variant: its seeds and both ends of its bar."""
    mean, deviation = row.summary.mean or 0.0, row.summary.deviation or 0.0
    return [*row.accuracies.values(), mean - deviation, mean + deviation]


def _title(sweep: SweepResults) -> str:
    if len(sweep.files.seeds) == 1:
        return "Measured top-1 (%), one seed"
    return "Measured top-1 (%): mean, standard deviation, seeds"


def _accuracy_axis(axes: Axes, scale: Scale, base: float | None) -> None:
    axes.set_xlim(scale.low, scale.high)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    tick_text(axes.xaxis, lambda value: f"{value:g}")
    axes.grid(False, axis="y")
    if base is not None:
        axes.axvline(base, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2)


def _below(axes: Axes, scale: Scale, place: float, text: str, color: str) -> None:
    """What lies below the axis stands at its edge with its number."""
    axes.plot(
        [0.012], [place], "<", transform=axes.get_yaxis_transform(), markersize=6, color=color, clip_on=False, zorder=4
    )
    axes.annotate(
        text, (0.012, place), xycoords=axes.get_yaxis_transform(), xytext=(8, 0), textcoords="offset points",
        ha="left", va="center", color=color, fontsize=8.5,
    )  # fmt: skip


def _printed_panel(
    axes: Axes, printed: Mapping[str, float], places: Mapping[str, float], bases: Collection[str]
) -> None:
    scale = close_scale(printed.values())
    axes.set_title("In print (%)")
    _accuracy_axis(axes, scale, printed.get(next(iter(bases))) if len(bases) == 1 else None)
    for name, value in printed.items():
        if scale.holds(value):
            axes.plot(
                [value], [places[name]], "o", markersize=6, markerfacecolor=GROUND, markeredgecolor=INK,
                markeredgewidth=1.3, zorder=4,
            )  # fmt: skip
        else:
            _below(axes, scale, places[name], f"{value:.1f}", MUTED)


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
def accuracy_over_macs(sweep: SweepResults) -> Figure:
    """Mean accuracy over multiply-adds; names stand in a column, a thin line leads to each point."""
    rows = [row for row in sweep.rows if row.summary.mean is not None and row.macs]
    figure = blank(_WIDTH, max(3.6, 1.2 + 0.2 * len(rows)))
    axes = figure.subplots()
    axes.set_title("Mean top-1 (%) over multiply-adds an image")
    axes.set_xlabel("MACs")
    if not rows:
        return figure
    scale = close_scale([row.summary.mean for row in rows if row.summary.mean is not None])
    axes.set_ylim(scale.low, scale.high)
    axes.yaxis.set_major_locator(MaxNLocator(7))
    _macs_axis(axes, [row.macs or 0 for row in rows])
    look = _Look.of(sweep)
    for row in rows:
        look.plot(axes, row, row.macs or 0, max(row.summary.mean or 0, scale.low))
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
    """Names in the points' order from above, pushed apart where they would meet."""
    ordered = sorted(rows, key=lambda row: -(row.summary.mean or 0))
    wanted = [(max(row.summary.mean or 0, scale.low) - scale.low) / (scale.high - scale.low) for row in ordered]
    for row, height in zip(ordered, spread(wanted, 1 / max(len(rows) - 0.5, 15)), strict=True):
        mean = row.summary.mean or 0
        off = "" if scale.holds(mean) else "  ↓"
        axes.annotate(
            f"{shorten(row.name, _NAME)}  {mean:.1f}{off}", (row.macs or 0, max(mean, scale.low)),
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


# Against print.

_SIDE = 5.6
_OFFSETS = [offset for far in range(0, 60, 4) for offset in ((9, -far), (-9, far), (9, far), (-9, -far), (0, far + 13))]


@house_style()
def against_print(sweep: SweepResults) -> Figure | None:
    """Rank by measured mean over rank in print, the best at the top right; None below three variants."""
    rows = sweep.compared_with_print
    if len(rows) < 3 or sweep.ranks is None:
        return None
    measured = rankdata([-(row.summary.mean or 0) for row in rows])
    printed = rankdata([-(row.variant.published or 0) for row in rows])
    figure = blank(_WIDTH, _SIDE)
    axes = figure.subplots()
    axes.set_title(_rank_title(sweep))
    axes.set_xlabel("rank in print (1 is best)")
    axes.set_ylabel("rank by measured mean")
    ends = (len(rows) + 0.8, 0.2)
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlim(ends[0], ends[1] - 0.32 * len(rows))  # room for the names of the best
    axes.set_ylim(*ends)
    steps = range(1, len(rows) + 1, 1 if len(rows) < 10 else 2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(steps))
    look = _Look.of(sweep)
    for row, x, y in zip(rows, printed, measured, strict=True):
        look.plot(axes, row, x, y)
    look.legend(figure)
    _name_points(axes, [row.name for row in rows], list(zip(printed, measured, strict=True)))
    return figure


def _rank_title(sweep: SweepResults) -> str:
    ranks = sweep.ranks
    assert ranks is not None
    within = f", 95 % interval {signed(ranks.interval[0])} to {signed(ranks.interval[1])}" if ranks.interval else ""
    return f"Order measured and in print: Spearman's ρ = {signed(ranks.rho)}{within}"


def _name_points(axes: Axes, names: Sequence[str], spots: Sequence[tuple[float, float]]) -> None:
    """Each name at the nearest free place around its point."""
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
