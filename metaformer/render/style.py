"""One look for every figure: colors, type, and the ways out (a file, or an inline SVG that follows the page).

Figures are made with matplotlib's object interface, so nothing is left behind in pyplot and any thread may draw.
The palette is Okabe and Ito's, which stays apart for color-blind readers and in gray print.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

INK, MUTED, HAIR, GROUND = "#1b1f27", "#5f6876", "#dde1e7", "#fefefe"
BLUE, VERMILION, GREEN, AMBER, PURPLE, SKY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, AMBER, SKY, INK, MUTED)
RIGHT, WRONG = BLUE, VERMILION

# The page redefines these variables for its dark theme; a figure's colors are swapped for them in its SVG.
_VARIABLES = {
    INK: "ink", MUTED: "muted", HAIR: "hair", GROUND: "ground", BLUE: "blue", VERMILION: "vermilion",
    GREEN: "green", AMBER: "amber", PURPLE: "purple", SKY: "sky",
}  # fmt: skip

# DejaVu Sans comes with matplotlib; the others are used, where installed, for class names it cannot write.
_FALLBACKS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Emoji",
              "Microsoft YaHei", "Hiragino Sans", "Arial Unicode MS", "WenQuanYi Zen Hei")  # fmt: skip


@cache
def _families() -> list[str]:
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)]


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's settings for one figure; put it on a drawing function as ``@house_style()``."""
    settings: Any = {
        "font.family": _families(), "font.size": 9, "text.color": INK, "text.parse_math": False,
        "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 8,
        "axes.titlecolor": INK, "axes.labelsize": 9, "axes.labelcolor": MUTED, "axes.edgecolor": MUTED,
        "axes.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        "axes.grid": True, "grid.color": HAIR, "grid.linewidth": 0.7, "axes.facecolor": "none",
        "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
        "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
        "lines.linewidth": 1.8, "lines.solid_capstyle": "round", "lines.dash_capstyle": "round",
        "legend.frameon": False, "legend.fontsize": 8.5, "legend.labelcolor": INK,
        "figure.facecolor": GROUND, "savefig.facecolor": GROUND, "svg.fonttype": "path", "svg.hashsalt": "metaformer",
    }  # fmt: skip
    with rc_context(settings), warnings.catch_warnings():
        # A letter that no installed font has is drawn as a box in a figure; the page beside it shows it well.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def blank(width: float, height: float) -> Figure:
    """An empty figure of ``width`` × ``height`` inches that lays itself out."""
    return Figure(figsize=(width, height), layout="constrained")


def tick_text(axis: object, text: object) -> None:
    """Let ``text(value) -> str`` write the labels of an axis (no mathematical typesetting, no offsets)."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))  # type: ignore[attr-defined, operator]


def bare(axes: Axes) -> None:
    """No spines, ticks or grid: a surface to draw on."""
    axes.grid(False)
    axes.set_axis_off()


@house_style()
def save_png(figure: Figure, path: Path) -> Path:
    """Write the figure as a PNG of 160 dots per inch."""
    figure.savefig(path, format="png", dpi=160, metadata={"Software": "metaformer"})
    return path


@house_style()
def save_svg(figure: Figure, path: Path) -> Path:
    """Write the figure as an SVG file that is the same on every run; its letters are outlines, so no font is needed."""
    figure.savefig(path, format="svg", metadata={"Date": None})
    return path


@house_style()
def inline_svg(figure: Figure, label: str) -> str:
    """The figure as an ``<svg>`` element for a page: transparent, its colors the page's variables, no metadata.

    ``label`` says what it shows to those who cannot see it; it must be plain words without markup.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, name in _VARIABLES.items():
        svg = re.sub(f"{color}(?![0-9a-f])", f"var(--{name})", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
