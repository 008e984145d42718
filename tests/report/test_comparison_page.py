"""A comparison shows every row's own numbers, says what failed, and looks closely at one run."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from metaformer.report.comparison_page import ComparisonRow, comparison_table, write_comparison

from . import fabricated as fake
from .test_run_page import assert_self_contained, read


@pytest.fixture
def rows(tmp_path: Path) -> list[ComparisonRow]:
    good = fake.run_folder(tmp_path / "pooling")
    other = fake.run_folder(tmp_path / "no-residual", ("bat", "cow"))
    return [
        ComparisonRow("Pooling", "average of neighbours", "mixer", good, 310_538, 31_100_000, 22.7, 0.9806),
        ComparisonRow("No residual", "the [shortcut] is <cut>", "broken", other, 61_002, 8_000_000, 95.0, 0.2167),
        ComparisonRow("Lost", "", "mixer", tmp_path / "nowhere", 5, 0, math.nan, math.nan, "loss not finite"),
    ]


def page_of(tmp_path: Path, rows: list[ComparisonRow], **options: str) -> Path:
    return write_comparison(tmp_path / "demo", rows, "Mixers", "Do they differ?", ["They <do>."], **options)


def test_the_page_has_every_rows_numbers(tmp_path: Path, rows: list[ComparisonRow]) -> None:
    page = page_of(tmp_path, rows)
    assert_self_contained(page)
    text = read(page).text
    for said in (
        "Mixers", "Do they differ?", "They <do>.", "98.06 %", "311 k", "31.10 M", "23 s", "21.67 %", "1 min 35 s",
        "the [shortcut] is <cut>", "loss not finite", "A closer look: Pooling", "An Old Abacus",
    ):  # fmt: skip
        assert said in text
    for name in ("curves.png", "tradeoff.png", "confusion.png", "predictions.png"):
        with Image.open(page.parent / name) as picture:
            picture.verify()


def test_the_best_unbroken_row_is_looked_at_unless_one_is_chosen(tmp_path: Path, rows: list[ComparisonRow]) -> None:
    flattering = [rows[0], replace(rows[1], top1=1.0)]
    for row in flattering:  # nothing to draw: only the choice matters here
        fake.write_evaluation(row.folder, confusion=[], samples=[])
        (row.folder / "metrics.csv").unlink()
    assert "A closer look: Pooling" in read(page_of(tmp_path, flattering)).text
    assert "A closer look: No residual" in read(page_of(tmp_path, flattering, chosen="No residual")).text


def test_rows_without_folders_still_make_a_page(tmp_path: Path, rows: list[ComparisonRow]) -> None:
    assert "loss not finite" in read(page_of(tmp_path, rows[2:])).text
    assert "Do they differ?" in read(page_of(tmp_path, [])).text


def test_the_terminal_shows_the_same_numbers(rows: list[ComparisonRow]) -> None:
    out = io.StringIO()
    Console(file=out, width=140).print(comparison_table(rows, "Mixers"))
    for said in ("98.06 %", "21.67 %", "311 k", "31.10 M", "1 min 35 s", "the [shortcut] is <cut>", "loss not finite"):
        assert said in out.getvalue()
