"""Which classes are mistaken for which: a (K, K) confusion matrix in, rankings and a figure out.

Rows are true classes, columns predicted ones. Shares are of the row, so a rare class weighs as much as a common one.
Up to 20 classes the figure has counts, up to 40 class names; beyond that, an overview and the most confused pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .numbers import count, percent, shorten_all
from .style import HAIR, INK, MUTED, RIGHT, WRONG, bare, blank, house_style

COUNTS_UP_TO, NAMES_UP_TO = 20, 40
_OVERVIEW = 200  # cells per side; more would be smaller than the figure's dots


@dataclass(frozen=True)
class Pair:
    """Images of one class that were predicted as another."""

    true: str
    predicted: str
    count: int
    of: int
    """Images of the true class."""

    @property
    def share(self) -> float:
        """Of the true class's images."""
        return self.count / self.of


@dataclass(frozen=True)
class ClassRecall:
    """How many images of one class were classified correctly."""

    name: str
    correct: int
    of: int
    """Images of the class."""

    @property
    def share(self) -> float:
        """The recall of the class."""
        return self.correct / self.of


def row_shares(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K, K) shares of each row; a class without images has a row of zeros."""
    return confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)


def most_confused(confusion: NDArray[np.int64], classes: Sequence[str], limit: int) -> list[Pair]:
    """The pairs that were confused most often: most images first, then the larger share."""
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    totals = confusion.sum(axis=1)
    rows, columns = np.nonzero(mistakes)
    # lexsort sorts by its last key first, and keeps the order of equal pairs
    order = np.lexsort((-row_shares(confusion)[rows, columns], -mistakes[rows, columns]))[:limit]
    return [
        Pair(classes[t], classes[p], int(mistakes[t, p]), int(totals[t]))
        for t, p in zip(rows[order], columns[order], strict=True)
    ]


def worst_classes(confusion: NDArray[np.int64], classes: Sequence[str], limit: int) -> list[ClassRecall]:
    """The classes with the lowest recall, worst first; those without a mistake or without images are left out."""
    recalls = [
        ClassRecall(name, int(correct), int(total))
        for name, correct, total in zip(classes, np.diag(confusion), confusion.sum(axis=1), strict=True)
        if total > correct
    ]
    return sorted(recalls, key=lambda recall: (recall.share, -recall.of))[:limit]


@house_style()
def confusion_figure(confusion: NDArray[np.int64], classes: Sequence[str], *, pixels: bool = False) -> Figure:
    """The matrix, with blue for correct and orange for mistaken; for many classes an overview and the worst pairs.

    With ``pixels`` the matrix counts pixels instead of images, and the numbers in the cells are percents of the row.
    """
    if len(classes) > NAMES_UP_TO:
        return _overview(confusion, classes, pixels)
    names = shorten_all(classes, 22)
    # inches: a cell has room for four digits or for the height of a name, a letter is about 0.08 wide
    side = max(2.4, (0.44 if len(classes) <= COUNTS_UP_TO else 0.26) * len(classes))
    label = 0.08 * max(map(len, names), default=1)
    is_horizontal = label < side / max(len(names), 1)
    figure = blank(side + label + 0.8, side + (0 if is_horizontal else 0.7 * label) + 1.2)
    axes = figure.subplots()
    _cells(axes, row_shares(confusion))
    axes.set_xticks(range(len(names)), names, rotation=0 if is_horizontal else 50)
    for text in axes.get_xticklabels():
        if text.get_rotation():
            # else matplotlib centers the rotated text, and names of different length end at different places
            text.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(_headline(confusion, pixels))
    if len(classes) <= COUNTS_UP_TO:
        _write_counts(axes, confusion, pixels)
    return figure


def _headline(confusion: NDArray[np.int64], pixels: bool) -> str:
    correct, total = int(np.trace(confusion)), int(confusion.sum())
    share = percent(correct / total if total else None)
    return f"{share} of the pixels correct" if pixels else f"{count(correct)} of {count(total)} correct ({share})"


def _cells(axes: Axes, shares: NDArray[np.float64]) -> None:
    correct = np.eye(len(shares), dtype=bool)
    cells = np.empty((*shares.shape, 4))
    cells[..., :3] = np.where(correct[..., None], to_rgb(RIGHT), to_rgb(WRONG))
    # the share is the opacity, which suits a light and a dark page; its root, so that few mistakes are visible
    cells[..., 3] = np.where(correct, shares, np.sqrt(shares))
    axes.imshow(cells, interpolation="none")
    axes.grid(False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(HAIR)
    if len(shares) <= NAMES_UP_TO:
        # lines between cells: matplotlib puts pixel centers on whole numbers
        axes.set_xticks(np.arange(len(shares) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(shares) + 1) - 0.5, minor=True)
        axes.grid(True, which="minor", linewidth=0.6)


def _write_counts(axes: Axes, confusion: NDArray[np.int64], pixels: bool) -> None:
    shares = row_shares(confusion)
    size = 8.5 if pixels or confusion.max(initial=0) < 10_000 else 6  # five digits need a smaller font
    for t, p in np.ndindex(confusion.shape):
        if confusion[t, p] or t == p:
            opacity = shares[t, p] if t == p else np.sqrt(shares[t, p])
            color = "white" if opacity > 0.6 else INK
            text = f"{100 * shares[t, p]:.0f}" if pixels else str(confusion[t, p])
            axes.text(p, t, text, ha="center", va="center", color=color, fontsize=size)


def _overview(confusion: NDArray[np.int64], classes: Sequence[str], pixels: bool) -> Figure:
    pairs = most_confused(confusion, classes, 20)
    figure = blank(10.4, max(4.6, 1.2 + 0.24 * len(pairs)))
    matrix, bars = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _cells(matrix, _coarse(row_shares(confusion)))
    matrix.set(xticks=[], yticks=[], xlabel="predicted class", ylabel="true class")
    matrix.set_title(f"{len(classes)} classes: {_headline(confusion, pixels)}")
    matrix.set_anchor("NW")
    bars.set_title("Most confused: true → predicted" if pairs else "No mistakes")
    bare(bars)
    bars.set(xlim=(0, 1), ylim=(max(len(pairs), 1) - 0.4, -0.6))
    names = dict(zip(classes, shorten_all(classes, 24), strict=True))
    largest = max((pair.share for pair in pairs), default=1.0)
    for row, pair in enumerate(pairs):
        text = percent(pair.share, 0) if pixels else f"{pair.count} of {pair.of} ({percent(pair.share, 0)})"
        width = 0.17 * pair.share / largest  # of the axes, which span 0 to 1; names end at 0.6
        bars.text(0.6, row, f"{names[pair.true]} → {names[pair.predicted]}", ha="right", va="center", fontsize=8)
        bars.barh(row, width, left=0.62, height=0.6, color=WRONG)
        bars.text(0.635 + width, row, text, va="center", fontsize=8, color=MUTED)
    return figure


def _coarse(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most ``_OVERVIEW`` cells per side; a cell has the largest share of its block, so no mistake disappears."""
    block = -(-len(shares) // _OVERVIEW)  # rounded up
    side = -(-len(shares) // block) * block
    padded = np.pad(shares, (0, side - len(shares)))
    return padded.reshape(side // block, block, side // block, block).max(axis=(1, 3))
