"""A figure of evaluated images with their predictions, mistakes first: samples in, a figure out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...render.numbers import percent, shorten_all
from ...render.style import HAIR, INK, MUTED, RIGHT, WRONG, bare, house_style
from .evaluation import ClassificationEvaluation, Sample

COLUMNS, CARDS, BARS = 4, 24, 3
_WIDTH, _HEIGHT, _SIDE = 2.9, 1.5, 1.12  # of a card and its image, in inches
_GAP, _HEAD = 0.14, 0.4


@house_style()
def predictions_figure(evaluation: ClassificationEvaluation) -> Figure:
    """Up to 24 samples, mistakes first: the image, its true class, and bars for the three most likely classes."""
    samples = evaluation.wrong_first[:CARDS]
    columns = min(COLUMNS, max(len(samples), 1))
    rows = max(-(-len(samples) // columns), 1)  # rounded up
    names = shorten_all(evaluation.classes, 16)
    figure = Figure(figsize=(columns * _WIDTH + _GAP, rows * _HEIGHT + _HEAD + _GAP))
    axes = figure.add_axes((0, 0, 1, 1))
    bare(axes)
    for i, sample in enumerate(samples):
        _card(axes, sample, names, x=_GAP + (i % columns) * _WIDTH, y=_HEAD + (i // columns) * _HEIGHT)
    axes.text(_GAP, 0.24, _caption(samples) if columns > 1 else "", color=MUTED, fontsize=8.5)
    # the axes' unit is an inch, with y downwards, so that all lengths below are inches
    axes.set(xlim=(0, figure.get_figwidth()), ylim=(figure.get_figheight(), 0), aspect="equal")
    return figure


def _caption(samples: Sequence[Sample]) -> str:
    wrong = sum(not sample.right for sample in samples)
    return (
        f"{len(samples)} images, {wrong} of them wrong, most confident mistakes first. Above each its true class; "
        "bars are the most likely classes: blue for the true class, orange for the wrong prediction."
    )


def _card(axes: Axes, sample: Sample, names: Sequence[str], x: float, y: float) -> None:
    """Draw one sample with its top left corner at (x, y) inches."""
    color = RIGHT if sample.right else WRONG
    top = y + 0.2
    _image(axes, sample, x, top, color)
    axes.text(x, y + 0.13, _name(names, sample.label), fontsize=8.5, weight="bold", color=INK)
    verdict = "✓ correct" if sample.right else "✗ wrong"
    left, right = x + _SIDE + 0.12, x + _WIDTH - 2 * _GAP
    axes.text(right, y + 0.13, verdict, fontsize=8, color=color, ha="right")
    for rank, (index, probability) in enumerate(sample.top[:BARS]):
        shade = RIGHT if index == sample.label else (WRONG if rank == 0 else MUTED)
        _bar(axes, _name(names, index), probability, shade, left, right, top + 0.16 + rank * 0.37)


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else f"class {index}"


def _image(axes: Axes, sample: Sample, x: float, y: float, color: str) -> None:
    frame = {"facecolor": "none", "edgecolor": color, "linewidth": 1.6}
    if sample.image is None:
        axes.text(x + _SIDE / 2, y + _SIDE / 2, "no image", ha="center", va="center", color=MUTED, fontsize=8)
        frame["facecolor"] = HAIR
        axes.add_patch(Rectangle((x, y), _SIDE, _SIDE, zorder=0, **frame))  # type: ignore[arg-type]
        return
    scale = _SIDE / max(sample.image.size)
    width, height = (scale * side for side in sample.image.size)
    x, y = x + (_SIDE - width) / 2, y + (_SIDE - height) / 2
    small = max(sample.image.size) < 64  # pixels of digits and CIFAR stay visible instead of blurred
    pixels = np.asarray(sample.image)
    axes.imshow(pixels, extent=(x, x + width, y + height, y), interpolation="nearest" if small else "antialiased")
    axes.add_patch(Rectangle((x, y), width, height, **frame))  # type: ignore[arg-type]


def _bar(axes: Axes, name: str, probability: float, color: str, left: float, right: float, y: float) -> None:
    width = right - left
    axes.text(left, y, name, fontsize=7.5, color=INK)
    axes.text(right, y, percent(probability, 0), fontsize=7.5, color=MUTED, ha="right")
    axes.add_patch(Rectangle((left, y + 0.06), width, 0.07, facecolor=HAIR, edgecolor="none"))
    filled = width * min(max(probability, 0.0), 1.0)
    axes.add_patch(Rectangle((left, y + 0.06), filled, 0.07, facecolor=color, edgecolor="none"))
