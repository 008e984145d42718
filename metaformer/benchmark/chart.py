"""The bar chart of a bench: images/s by contender, with whiskers for the quartiles and lines for the machine's peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..render.style import AMBER, BLUE, GREEN, HAIR, INK, MUTED, PURPLE, blank, house_style, save_svg

COLORS = {"metaformer": BLUE, "timm": AMBER, "transformers": GREEN, "torchvision": PURPLE}
_ROW = 0.24  # inches per bar with its gap


def write_chart(result: Mapping[str, Any], path: Path) -> Path:
    """The first comparison of a bench as an SVG."""
    return save_svg(speeds(result["inference"][0]), path)


@house_style()
def speeds(comparison: Mapping[str, Any]) -> Figure:
    """One group per precision, the fastest contender first; contenders without times are not drawn."""
    groups = {
        precision: sorted(
            (row for row in comparison["rows"] if row["precision"] == precision and row["metrics"].get("ratio")),
            key=lambda row: -row["metrics"]["images_per_second"],
        )
        for precision in ("fp32", "bf16", "int8")
    }
    shown = {precision: rows for precision, rows in groups.items() if rows}
    count = sum(len(rows) + 1 for rows in shown.values())
    figure = blank(9.2, 1.1 + _ROW * count)
    axes = figure.subplots()
    axes.set_title(f"{comparison['model']}, {comparison['size']} pixels, batch {comparison['batch']}: images/s")
    axes.grid(False, axis="y")
    top = _draw(axes, comparison, shown)
    axes.set_xlim(0, 1.16 * top)
    axes.set_ylim(count - 0.4, -0.9)
    there = {row["library"] for rows in shown.values() for row in rows}
    handles = [Patch(color=color, label=name) for name, color in COLORS.items() if name in there]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


def _draw(axes: Axes, comparison: Mapping[str, Any], groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> float:
    """Draw the groups one below the other; returns the largest value drawn."""
    place, top, ticks = 0, 1.0, []
    for precision, rows in groups.items():
        ticks.append((place, _heading(comparison, precision)))
        first = place + 1
        for row in rows:
            place += 1
            top = max(top, _bar(axes, row, place))
            ticks.append((place, row["name"]))
        limit = _limit(comparison, precision)
        if limit:
            axes.plot([limit, limit], [first - 0.5, place + 0.5], color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
            top = max(top, limit)
        place += 1
    axes.set_yticks([at for at, _ in ticks], [text for _, text in ticks])
    for tick, (_, text) in zip(axes.get_yticklabels(), ticks, strict=True):
        if text.startswith(tuple(f"{precision}:" for precision in groups)):
            tick.set(color=MUTED, style="italic")
        else:
            tick.set_color(INK)
    return top


def _heading(comparison: Mapping[str, Any], precision: str) -> str:
    limit = _limit(comparison, precision)
    return f"{precision}: a matrix product's limit is {limit:,.0f}" if limit else f"{precision}:"


def _limit(comparison: Mapping[str, Any], precision: str) -> float:
    """Images/s if every multiply-add ran at the measured peak; 0 if none was measured."""
    return float(1e9 * comparison["peak_gflops"].get(precision, 0) / (2 * comparison["macs"]))


def _bar(axes: Axes, row: Mapping[str, Any], place: int) -> float:
    """A bar with its value and the quartiles of its ratio as a whisker; returns where the whisker ends."""
    metrics = row["metrics"]
    speed, ratio = metrics["images_per_second"], metrics["ratio"]
    low, high = (speed * quartile / ratio for quartile in metrics["quartiles"])
    axes.barh(place, speed, height=0.72, color=COLORS.get(row["library"], HAIR))
    axes.plot([low, high], [place, place], color=INK, linewidth=1)
    text = f"{speed:,.0f}  ({ratio:.2f} ×)" if speed >= 10 else f"{speed:,.1f}  ({ratio:.2f} ×)"
    axes.annotate(
        text, (max(speed, high), place), xytext=(4, 0), textcoords="offset points", va="center", color=INK,
        fontsize=8.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},  # above the line of the limit
    )  # fmt: skip
    return max(speed, high)
