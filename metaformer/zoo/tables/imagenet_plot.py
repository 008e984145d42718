"""ImageNet top-1 over multiply-adds and over parameters, like figure 1 of the first paper.

In: the lines of the table. Each family has a color and a marker, and a line through its sizes. Costs are counted here,
on logarithmic scales; accuracies are those in print.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FixedLocator, MultipleLocator, NullLocator

from ...render.label_placement import Box, free_place
from ...render.style import (
    AMBER,
    BLUE,
    GREEN,
    GROUND,
    INK,
    MUTED,
    PURPLE,
    SKY,
    VERMILION,
    blank,
    house_style,
    save_png,
    save_svg,
    tick_text,
)  # fmt: skip
from .imagenet_table import GROUPS, ComparedModel

BROWN = "#7a4b2a"
# Marker and color of each family: circles for attention, squares and other corners for MLPs over positions.
_LOOKS = {
    "ResNet (RSB A2)": ("X", MUTED),
    "ViT": ("o", INK),
    "DeiT": ("o", SKY),
    "PVT": ("o", BLUE),
    "MLP-Mixer": ("D", BROWN),
    "ResMLP": ("s", GREEN),
    "Swin-Mixer": ("^", AMBER),
    "gMLP": ("v", PURPLE),
    "PoolFormer": ("P", VERMILION),
}
_SIZE = (9.4, 5.6)
_TICKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500)
_LABEL_SIZE = 8
_MARK = 5.0  # half a marker with its edge and a margin, in points
_OFFSETS = [(0, 12), (0, -12), (7, -8), (7, 8), (-7, 8), (-7, -8), (8, 0), (-8, 0), (0, 17), (0, -17), (11, 14)]


def write_plot(lines: Sequence[ComparedModel], path: Path) -> Path:
    """Write the figure as SVG or PNG, by the file's suffix."""
    save = save_svg if path.suffix == ".svg" else save_png
    return save(accuracy_over_cost(lines), path)


@house_style()
def accuracy_over_cost(lines: Sequence[ComparedModel]) -> Figure:
    """The two panels with one legend; sizes are labeled where there is room."""
    figure = blank(*_SIZE)
    FigureCanvasAgg(figure)
    macs, parameters = figure.subplots(1, 2, sharey=True, gridspec_kw={"wspace": 0.06})
    _panel(macs, lines, [line.macs / 1e9 for line in lines], "MACs counted here (G)")
    _panel(parameters, lines, [line.parameters / 1e6 for line in lines], "Parameters counted here (M)")
    macs.set_ylabel("ImageNet-1K top-1 in print (%)")
    macs.yaxis.set_major_locator(MultipleLocator(2))
    handles, labels = macs.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), handlelength=1.6, columnspacing=1.3)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # labels are placed by hand below: the layout must not move any more
    _name_sizes(macs, lines, [line.macs / 1e9 for line in lines])
    _name_sizes(parameters, lines, [line.parameters / 1e6 for line in lines])
    return figure


def _families(lines: Sequence[ComparedModel]) -> list[str]:
    present = {line.family for line in lines}
    return [family for families in GROUPS.values() for family in families if family in present]


def _panel(axes: Axes, lines: Sequence[ComparedModel], costs: Sequence[float], label: str) -> None:
    for family in _families(lines):
        points = sorted((cost, line.published.top1) for cost, line in zip(costs, lines, strict=True)
                        if line.family == family)  # fmt: skip
        marker, color = _LOOKS[family]
        own: dict[str, Any] = {"linewidth": 2.2, "zorder": 5} if family == "PoolFormer" else {"linewidth": 1.3}
        axes.plot(
            *zip(*points, strict=True), color=color, marker=marker, markersize=7.5, markeredgecolor=GROUND,
            markeredgewidth=0.8, label=family.partition(" (")[0], **own,
        )  # fmt: skip
    axes.set_xlabel(label)
    axes.set_xscale("log")
    axes.set_xlim(min(costs) / 1.25, max(costs) * 1.25)
    axes.margins(y=0.08)
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    tick_text(axes.xaxis, lambda value: f"{value:g}")


def size_of(line: ComparedModel) -> str:
    """The part of the name that is not the family's: ``S12`` of poolformer_s12, ``Tiny C24`` of a Swin-Mixer."""
    first, *words = line.name.split("_")
    shared = re.compile(rf"|mlp|{line.img_size[0]}|(patch|window)\d+")
    words = [word for word in (first.lstrip("abcdefghijklmnopqrstuvwxyz"), *words) if not shared.fullmatch(word)]
    return " ".join(word.capitalize() for word in words)


def _name_sizes(axes: Axes, lines: Sequence[ComparedModel], costs: Sequence[float]) -> None:
    """A label beside each point that overlaps no other point, line or label; without room it is left out."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    points_of_type = 72 / figure.dpi
    frame = Box(*(side * points_of_type for side in axes.get_window_extent().extents))
    spots = [
        tuple(axes.transData.transform((cost, line.published.top1)) * points_of_type)
        for cost, line in zip(costs, lines, strict=True)
    ]
    taken = [Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in spots]
    taken += [box for family in _families(lines) for box in _along(_spots_of(family, lines, spots))]
    for line, cost, spot in zip(lines, costs, spots, strict=True):
        name = size_of(line)
        place = free_place(spot, _extent(figure, name), _OFFSETS, frame, taken)
        if place is not None:
            dx, dy, box = place
            taken.append(box)
            axes.annotate(
                name, (cost, line.published.top1), xytext=(dx, dy), textcoords="offset points", va="center",
                ha="left" if dx > 0 else "right" if dx < 0 else "center", fontsize=_LABEL_SIZE,
                color=_LOOKS[line.family][1], zorder=6,
            )  # fmt: skip


def _spots_of(family: str, lines: Sequence[ComparedModel], spots: Sequence[Any]) -> list[tuple[float, float]]:
    return sorted(spot for line, spot in zip(lines, spots, strict=True) if line.family == family)


def _along(spots: Sequence[tuple[float, float]]) -> list[Box]:
    """Small boxes on the lines between neighbors."""
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(spots):
        steps = max(1, round(max(abs(x1 - x0), abs(y1 - y0)) / 3))
        for i in range(steps + 1):
            x, y = x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps
            boxes.append(Box(x - 1.2, y - 1.2, x + 1.2, y + 1.2))
    return boxes


def _extent(figure: Figure, text: str) -> tuple[float, float]:
    """Width and height of a label in points of type; a line is as high as its highest and its lowest letter ask for."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    font = FontProperties(size=_LABEL_SIZE)
    width, _, _ = renderer.get_text_width_height_descent(text, font, ismath=False)
    _, height, _ = renderer.get_text_width_height_descent("lp", font, ismath=False)
    return width * 72 / figure.dpi + 1, height * 72 / figure.dpi + 1
