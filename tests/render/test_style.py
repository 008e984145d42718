"""Figures leave no state behind, follow the page they stand in, and keep accuracies near 100 % apart."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

from metaformer.render.axes import accuracy_axis, series_colors
from metaformer.render.confusion import confusion_figure
from metaformer.render.style import blank, inline_svg, save_png, save_svg


def matrix() -> object:
    return confusion_figure(np.eye(3, dtype=int), ["a", "b", "c"])


def test_an_inline_drawing_follows_the_page_and_fetches_nothing() -> None:
    svg = inline_svg(matrix(), "A matrix")  # type: ignore[arg-type]
    assert svg.startswith('<svg role="img" aria-label="A matrix"')
    assert "var(--ink)" in svg
    assert "<metadata" not in svg
    assert "#1b1f27" not in svg


def test_drawing_leaves_no_global_state(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    save_png(matrix(), tmp_path / "x.png")  # type: ignore[arg-type]
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_a_saved_drawing_is_the_same_every_time(tmp_path: Path) -> None:
    one, other = (save_svg(matrix(), tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))  # type: ignore[arg-type]
    assert one == other


def test_accuracy_grows_upwards_and_stays_apart_near_100_percent() -> None:
    axes = blank(3, 3).subplots()
    accuracy_axis(axes, [20, 98])
    heights = [axes.transData.transform((1, accuracy))[1] for accuracy in (0, 20, 90, 97, 98, 100)]
    assert heights == sorted(heights)
    assert heights[4] - heights[3] > 0.1 * (heights[2] - heights[1])
    for accuracies in ([], [float("nan")], [100.0, 100.0], [0.0]):
        accuracy_axis(blank(3, 3).subplots(), accuracies)


def test_colors_repeat() -> None:
    colors = series_colors(17)
    assert len(set(colors)) == 8
    assert colors[0] == colors[8] == colors[16]
