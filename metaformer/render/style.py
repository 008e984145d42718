"""The style of all figures: colors, fonts, and saving as PNG, SVG or inline SVG with the page's colors.

Figures use matplotlib's object interface, not pyplot, so no state is left behind and any thread may draw. The palette
is Okabe and Ito's, which color-blind readers can distinguish.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

# GROUND is not pure white: it turns dark on the dark page, while white numbers in a dark cell must stay white
INK, MUTED, HAIR, GROUND = "#1b1f27", "#5f6876", "#dde1e7", "#fefefe"
BLUE, VERMILION, GREEN, AMBER, PURPLE, SKY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, AMBER, SKY, INK, MUTED)
RIGHT, WRONG = BLUE, VERMILION

# CSS variables that replace the colors in inline SVG; page.css redefines them for its dark theme
_VARIABLES = {
    INK: "ink", MUTED: "muted", HAIR: "hair", GROUND: "ground", BLUE: "blue", VERMILION: "vermilion",
    GREEN: "green", AMBER: "amber", PURPLE: "purple", SKY: "sky",
}  # fmt: skip

# DejaVu Sans comes with matplotlib; installed fallbacks write class names in scripts that it does not have
_FALLBACKS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Emoji",
              "Microsoft YaHei", "Hiragino Sans", "Arial Unicode MS", "WenQuanYi Zen Hei")  # fmt: skip


@cache
def _font_families() -> list[str]:
    # matplotlib warns about each family that is not installed
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)]


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's settings for one figure; decorate a drawing function with ``@house_style()``."""
    # text.parse_math: a class name with two dollar signs is no formula. svg.hashsalt: element ids are otherwise random
    settings: Any = {
        "font.family": _font_families(), "font.size": 9, "text.color": INK, "text.parse_math": False,
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
        # a letter that no installed font has becomes a box in the figure; the page's tables show it with the browser's
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def blank(width: float, height: float) -> Figure:
    """An empty figure of ``width`` × ``height`` inches with automatic layout."""
    return Figure(figsize=(width, height), layout="constrained")


def tick_text(axis: Axis, text: Callable[[float], str]) -> None:
    """Label the ticks of an axis with ``text(value)``."""
    # also in place of matplotlib's own formatter, which writes offsets and powers of ten as formulas
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def bare(axes: Axes) -> None:
    """Remove spines, ticks and grid."""
    axes.grid(False)
    axes.set_axis_off()


@house_style()
def save_png(figure: Figure, path: Path) -> Path:
    """Write the figure as a PNG with 160 dots per inch."""
    # without matplotlib's version in the metadata, so that the file changes only where the figure does
    figure.savefig(path, format="png", dpi=160, metadata={"Software": "metaformer"})
    return path


@house_style()
def save_svg(figure: Figure, path: Path) -> Path:
    """Write the figure as an SVG file, the same for the same figure; letters are outlines, so it needs no fonts."""
    figure.savefig(path, format="svg", metadata={"Date": None})
    return path


@house_style()
def inline_svg(figure: Figure, label: str) -> str:
    """The figure as an ``<svg>`` element for a page: transparent, in the page's colors, without metadata.

    ``label`` describes the figure to screen readers; it is inserted as it is, so it must have no markup.
    """
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]  # without the XML declaration and doctype, which HTML does not allow in its body
    for color, name in _VARIABLES.items():
        # not where a longer hexadecimal number starts with the same digits
        svg = re.sub(f"{color}(?![0-9a-f])", f"var(--{name})", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
