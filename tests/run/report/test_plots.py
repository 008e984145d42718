"""Figures are valid for any number of classes, epochs and runs, and rankings follow the matrix."""

from __future__ import annotations

import sys
from pathlib import Path

import fabricated as fake
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metaformer.render.confusion import Pair, confusion_figure, most_confused, row_shares, worst_classes
from metaformer.render.numbers import compact, count, duration, percent, short, shorten, shorten_all
from metaformer.render.style import blank, inline_svg, save_png
from metaformer.run.report.files import evaluation_from, read_metrics
from metaformer.run.report.plots import accuracy_axis, learning_curves
from metaformer.tasks.classification.report import predictions_figure


def assert_png(path: Path) -> None:
    with Image.open(path) as image:
        image.verify()
        assert image.format == "PNG"


@pytest.mark.parametrize("classes", [1, 2, 20, 40, 1000])
def test_a_matrix_of_any_size_is_drawn(tmp_path: Path, classes: int) -> None:
    matrix = np.diag(np.full(classes, 9)) + np.eye(classes, k=1, dtype=int)
    figure = confusion_figure(matrix, [f"class {i}" for i in range(classes)])
    assert_png(save_png(figure, tmp_path / "confusion.png"))
    assert max(figure.get_size_inches()) < 16


def test_counts_are_written_up_to_twenty_classes() -> None:
    matrix = np.array([[90, 10], [0, 0]])
    written = [text.get_text() for text in confusion_figure(matrix, ["a", "b"]).axes[0].texts]
    assert written == ["90", "10", "0"]


def test_shares_of_a_row_sum_to_one_or_the_class_is_empty() -> None:
    shares = row_shares(np.array([[3, 1], [0, 0]]))
    np.testing.assert_allclose(shares, [[0.75, 0.25], [0, 0]])


def test_the_most_confused_pair_comes_first() -> None:
    matrix = np.array([[90, 5, 5], [8, 2, 0], [0, 0, 10]])
    pairs = most_confused(matrix, ["a", "b", "c"], 2)
    assert pairs == [Pair("b", "a", 8, 10), Pair("a", "b", 5, 100)]
    assert [score.name for score in worst_classes(matrix, ["a", "b", "c"], 5)] == ["b", "a"]
    assert most_confused(np.diag([1, 2]), ["a", "b"], 5) == []


@pytest.mark.parametrize("top1", [(), (0.5,), ("nan",), (0.1, "nan", 0.3), (1.0, 1.0), (0.0, 0.0)])
def test_learning_curves_of_any_history(tmp_path: Path, top1: tuple[object, ...]) -> None:
    fake.write_metrics(tmp_path, top1=top1)
    metrics = read_metrics(tmp_path / "metrics.csv")
    assert_png(save_png(learning_curves(metrics), tmp_path / "curves.png"))


def test_accuracy_is_drawn_in_percent_and_grows_upwards(tmp_path: Path) -> None:
    fake.write_metrics(tmp_path)
    metrics = read_metrics(tmp_path / "metrics.csv")
    top1 = learning_curves(metrics).axes[1]
    assert any(np.allclose(line.get_ydata(), 100 * np.array(fake.TOP1)) for line in top1.lines)
    axes = blank(3, 3).subplots()
    accuracy_axis(axes, [20, 98])
    scale = axes.transData
    heights = [scale.transform((1, accuracy))[1] for accuracy in (0, 20, 90, 97, 98, 100)]
    assert heights == sorted(heights)


def test_predictions_of_any_number_of_images(tmp_path: Path) -> None:
    for images in (0, 1, 50):
        evaluation = evaluation_from(fake.evaluation(("a", "b"), images=images))
        assert_png(save_png(predictions_figure(evaluation), tmp_path / "predictions.png"))


def test_an_inline_drawing_follows_the_page_and_fetches_nothing(tmp_path: Path) -> None:
    fake.write_metrics(tmp_path)
    svg = inline_svg(learning_curves(read_metrics(tmp_path / "metrics.csv")), "Learning curves")
    assert svg.startswith("<svg role=")
    assert "var(--ink)" in svg
    assert "<metadata" not in svg
    assert "#1b1f27" not in svg


def test_drawing_leaves_no_global_state(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    save_png(confusion_figure(np.eye(3, dtype=int), ["a", "b", "c"]), tmp_path / "x.png")
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_numbers_read_well() -> None:
    assert [percent(0.97222), percent(float("nan")), percent(None), percent(1, 0)] == ["97.22 %", "–", "–", "100 %"]
    assert [short(11_915_176), short(1_823e6), short(999_960), short(12), short(None)] == [
        "11.92 M", "1.82 G", "1.00 M", "12", "–",
    ]  # fmt: skip
    assert [duration(s) for s in (0.51, 42.4, 192, 3599.7, 7500)] == [
        "0.5 s", "42 s", "3 min 12 s", "1 h 00 min", "2 h 05 min",
    ]  # fmt: skip
    assert [compact(30e6), compact(1e-5), compact(0.5)] == ["30 M", "1e-5", "0.5"]
    assert count(1797) == "1,797"


@settings(max_examples=40)
@given(st.lists(st.text(max_size=30), max_size=4, unique=True), st.integers(4, 20))
def test_shortened_names_fit(names: list[str], width: int) -> None:
    assert all(len(shorten(name, width)) <= width for name in names)
    assert all(len(name) <= width for name in shorten_all(names, width))


def test_names_that_differ_only_in_the_middle_stay_apart() -> None:
    names = [f"a long shared beginning {i} a long shared end" for i in range(20)]
    assert len(set(shorten_all(names, 12))) == 20
