"""Rankings follow the matrix, and a matrix of any size is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaformer.render.confusion import Pair, confusion_figure, most_confused, row_shares, worst_classes
from metaformer.render.style import save_png


@pytest.mark.parametrize(("classes", "pixels"), [(1, False), (2, True), (20, False), (40, True), (1000, False)])
def test_a_matrix_of_any_size_is_drawn(tmp_path: Path, classes: int, pixels: bool) -> None:
    matrix = np.diag(np.full(classes, 9)) + np.eye(classes, k=1, dtype=int)
    figure = confusion_figure(matrix, [f"class {i}" for i in range(classes)], pixels=pixels)
    with Image.open(save_png(figure, tmp_path / "confusion.png")) as image:
        image.verify()
    assert max(figure.get_size_inches()) < 16


@pytest.mark.parametrize(("pixels", "written"), [(False, ["90", "10", "0"]), (True, ["90", "10", "0"])])
def test_counts_or_percents_are_written_up_to_twenty_classes(pixels: bool, written: list[str]) -> None:
    matrix = np.array([[90, 10], [0, 0]]) * (1000 if pixels else 1)
    figure = confusion_figure(matrix, ["a", "b"], pixels=pixels)
    assert [text.get_text() for text in figure.axes[0].texts] == written


def test_an_empty_matrix_is_drawn() -> None:
    assert "–" in confusion_figure(np.zeros((2, 2), dtype=int), ["a", "b"]).axes[0].get_title(loc="left")


def test_shares_of_a_row_sum_to_one_or_the_class_is_empty() -> None:
    np.testing.assert_allclose(row_shares(np.array([[3, 1], [0, 0]])), [[0.75, 0.25], [0, 0]])


def test_the_most_confused_pair_comes_first() -> None:
    matrix = np.array([[90, 5, 5], [8, 2, 0], [0, 0, 10]])
    pairs = most_confused(matrix, ["a", "b", "c"], 2)
    assert pairs == [Pair("b", "a", 8, 10), Pair("a", "b", 5, 100)]
    assert [score.name for score in worst_classes(matrix, ["a", "b", "c"], 5)] == ["b", "a"]
    assert most_confused(np.diag([1, 2]), ["a", "b"], 5) == []
