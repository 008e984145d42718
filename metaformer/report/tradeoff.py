"""Accuracy over multiply-adds: one named point a model in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .numbers import compact, known, percent, shorten
from .places import Box, free_place
from .plots import accuracy_axis, series_colours
from .style import GROUND, INK, MUTED, blank, house_style, tick_text


@dataclass(frozen=True)
class Point:
    """One model of several: multiply-adds a picture and top-1 as a share."""

    title: str
    macs: float
    top1: float
    broken: bool = False


_SCATTER = (9.2, 4.2)
# Right, left, below, above, ever farther.
_OFFSETS = [
    offset
    for far in range(0, 240, 14)
    for offset in ((10, -far), (10, far), (-10, -far), (-10, far), (0, -far - 14), (0, far + 14))
]


@house_style()
def accuracy_over_macs(points: Sequence[Point]) -> Figure:
    """Top-1 over multiply-adds, one point a model with its name beside it."""
    points = [point for point in points if known(point.top1) and known(point.macs)]
    figure = blank(*_SCATTER)
    axes = figure.subplots()
    axes.set_title("Top-1 (%) over multiply-adds a picture, error on a logarithmic scale")
    axes.set_xlabel("MACs")
    accuracy_axis(axes, [100 * point.top1 for point in points])
    _macs_axis(axes, [point.macs for point in points])
    for colour, point in zip(series_colours(len(points)), points, strict=True):
        axes.plot(
            [point.macs], [100 * point.top1], "X" if point.broken else "o", color=colour, markersize=9,
            markeredgecolor=GROUND, zorder=4,
        )  # fmt: skip
    _name_points(axes, points)
    return figure


def _macs_axis(axes: Axes, macs: Sequence[float]) -> None:
    spread = bool(macs) and min(macs) > 0 and max(macs) / min(macs) > 20
    if spread:
        axes.set_xscale("log")
        axes.set_xlim(0.7 * min(macs), 1.4 * max(macs))
    elif macs:
        axes.set_xlim(0, 1.1 * max(max(macs), 1))
        axes.xaxis.set_major_locator(MaxNLocator(6))
    tick_text(axes.xaxis, compact)
    axes.xaxis.set_minor_formatter("")


def _name_points(axes: Axes, points: Sequence[Point]) -> None:
    """Each name at the nearest free place around its point; a thin line leads to it when that is not beside it."""
    width, height = 72 * (_SCATTER[0] - 0.6), 72 * (_SCATTER[1] - 0.9)  # of the axes in points of type
    to_axes = axes.transData + axes.transAxes.inverted()
    spots = [to_axes.transform((p.macs, 100 * p.top1)) * (width, height) for p in points]
    taken = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    for point, (x, y) in zip(points, spots, strict=True):
        name = f"{shorten(point.title, 40)}  {percent(point.top1, 1)}"
        place = free_place((x, y), (5.4 * len(name), 12), _OFFSETS, Box(0, 0, width, height), taken)
        dx, dy, box = place or (10, 0, Box(x, y, x, y))
        taken.append(box)
        side = 0.0 if dx > 0 else 1.0 if dx < 0 else 0.5
        line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 6, "relpos": (side, 0.5)}
        axes.annotate(
            name, (point.macs, 100 * point.top1), xytext=(dx, dy), textcoords="offset points", va="center",
            ha="left" if dx > 0 else "right" if dx < 0 else "center", color=INK,
            arrowprops=line if abs(dy) > 16 else None,
        )  # fmt: skip
