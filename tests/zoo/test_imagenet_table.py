"""The paper's ImageNet table and its figure: what is counted stands beside what is in print, differences are marked."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from rich.console import Console

from metaformer.zoo.catalogue import CATALOGUE, find
from metaformer.zoo.published_model import TableEntry
from metaformer.zoo.tables.imagenet_plot import accuracy_over_cost, size_of, write_plot
from metaformer.zoo.tables.imagenet_table import (
    COLUMNS,
    GROUPS,
    ComparedModel,
    agrees,
    comparison_csv,
    comparison_json,
    comparison_markdown,
    comparison_table,
    count_models,
    difference_note,
    in_paper_order,
)

PUBLISHED = in_paper_order(CATALOGUE.values())


def uncounted() -> list[ComparedModel]:
    """Every line with the rows' own numbers: quick, and the right shape for tables and figures."""
    return [
        ComparedModel(
            name=row.name, family=row.family, img_size=row.spec.img_size, parameters=row.parameters,
            macs=round(row.macs * 1e9), published=row.published, note=row.published.note,
        )
        for row in PUBLISHED
        if row.published is not None
    ]  # fmt: skip


LINES = uncounted()


def compared(parameters: int, macs: int, note: str = "") -> ComparedModel:
    printed = TableEntry(parameters=12, macs=1.8, top1=77.2, source="a table")
    return ComparedModel(
        name="poolformer_s12", family="PoolFormer", img_size=(224, 224), parameters=parameters, macs=macs,
        published=printed, note=note,
    )  # fmt: skip


# --- agreement ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counted", "printed", "power", "same"),
    [
        (11_915_176, 12, 6, True),
        (24_485_864, 25, 6, False),
        (24_500_000, 25, 6, True),
        (12_500_000, 13, 6, True),
        (4_051_000_000, 4.0, 9, False),
        (4_049_000_000, 4.0, 9, True),
        (23_020_000_000, 23.0, 9, True),
        (23_060_000_000, 23.0, 9, False),
        (59_880_472, 59, 6, False),
    ],
)
def test_a_count_agrees_with_as_many_digits_as_were_printed(
    counted: int, printed: float, power: int, same: bool
) -> None:
    assert agrees(counted, printed, power) is same


@given(st.integers(1, 10**12))
def test_a_count_agrees_with_its_own_rounding_and_with_no_other(counted: int) -> None:
    tenths = (counted + 5 * 10**7) // 10**8
    assert agrees(counted, tenths / 10, 9)
    assert not agrees(counted, (tenths + 1) / 10, 9)


def test_what_fvcore_adds_is_the_reason_where_it_explains_the_print() -> None:
    row = find("poolformer_m48")
    assert row.published is not None
    assert difference_note(row, row.published, ("macs",)).startswith("11.59 G")
    assert difference_note(row, row.published, ("parameters",)) == ""
    assert difference_note(row, row.published, ()) == ""
    assert difference_note(row, TableEntry(parameters=73, macs=20.0, top1=0, source=""), ("macs",)) == ""


# --- the table ----------------------------------------------------------------------------------------------------


def test_the_papers_families_come_in_its_order() -> None:
    families = list(dict.fromkeys(row.family for row in PUBLISHED))
    assert families == [family for group in GROUPS.values() for family in group]
    assert {row.name for row in PUBLISHED} == {row.name for row in CATALOGUE.values() if row.published}


def test_counting_counts_the_built_model() -> None:
    (line,) = count_models([find("poolformer_s12")])
    assert (line.parameters, line.macs) == (11_915_176, 1_812_267_008)
    assert line.differs == ()


def test_differences_are_marked_and_equal_notes_share_a_number() -> None:
    lines = [compared(11_915_176, 10**9, "cut"), compared(5_000_000, 10**9, "cut"), compared(5_000_000, 2 * 10**9, "b")]
    assert [line.differs for line in lines] == [("macs",), ("parameters", "macs"), ("parameters", "macs")]
    page = comparison_markdown(lines)
    assert (page.count("≠¹"), page.count("≠²"), page.count("- ¹ cut"), page.count("- ² b")) == (3, 2, 1, 1)
    assert "| 12 M | 1.00 G | 1.8 G ≠¹ |" in page
    assert "≠" not in comparison_markdown([compared(11_915_176, 1_812_267_008)])
    assert comparison_markdown([compared(5_000_000, 1_812_267_008)]).count("12 M ≠ |") == 1


def test_csv_and_json_keep_exact_counts() -> None:
    lines = [compared(11_915_176, 1_712_267_008, "why")]
    (row,) = csv.DictReader(io.StringIO(comparison_csv(lines)))
    assert tuple(row) == COLUMNS
    assert (row["parameters"], row["macs"], row["differs"], row["img_size"]) == (
        "11915176", "1712267008", "macs", "224",
    )  # fmt: skip
    (read,) = json.loads(comparison_json(lines))
    assert (read["parameters"], read["parameters_in_print"], read["differs"]) == (11_915_176, 12, ["macs"])
    assert (read["group"], read["note"]) == ("Pooling", "why")


def test_markdown_has_one_line_a_system_and_as_many_cells_as_heads() -> None:
    table = [line for line in comparison_markdown(LINES).splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(LINES)
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize("sources", [1, 2])
def test_eighty_columns_show_every_name_and_number(sources: int) -> None:
    lines = list(LINES)
    if sources == 2:
        other = TableEntry(parameters=1, macs=1.0, top1=50.0, source="0000.00000, table 1")
        lines.append(ComparedModel(**{**vars(lines[-1]), "published": other}))
    out = io.StringIO()
    Console(file=out, width=80).print(comparison_table(lines))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for line in lines:
        assert line.name in text
        assert f"{line.parameters / 1e6:.2f}" in text
        assert line.published.source in text
    assert "fvcore" in text
    assert all(group in text for group in GROUPS)


# --- the figure ---------------------------------------------------------------------------------------------------


def test_each_family_is_a_line_through_its_sizes_in_both_panels() -> None:
    figure = accuracy_over_cost(LINES)
    for axes, cost in zip(figure.axes, ("macs", "parameters"), strict=True):
        assert len(axes.lines) == len({line.family for line in LINES})
        drawn = {(round(float(x), 6), float(y)) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}
        unit = 1e9 if cost == "macs" else 1e6
        assert drawn == {(round(getattr(line, cost) / unit, 6), line.published.top1) for line in LINES}
    looks = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines}
    assert len(looks) == len(figure.axes[0].lines), "two families look alike"


def test_sizes_are_named_without_covering_each_other() -> None:
    figure = accuracy_over_cost(LINES)
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        assert len(boxes) > len(LINES) / 2
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        points = [axes.transData.transform(point) for line in axes.lines for point in line.get_xydata()]
        assert not any(box.contains(*point) for box in boxes for point in points)


def test_sizes_are_what_tells_the_models_of_a_family_apart() -> None:
    sizes = {line.name: size_of(line) for line in LINES}
    assert sizes["poolformer_s12"] == "S12"
    assert sizes["deit_small_patch16_224"] == "Small"
    assert sizes["swin_mlp_tiny_c24_patch4_window8_256"] == "Tiny C24"
    assert sizes["resmlp_big_24_patch16_224"] == "Big 24"
    assert sizes["resnet101"] == "101"
    assert len({(line.family, size_of(line)) for line in LINES}) == len(LINES)


@pytest.mark.parametrize("number", [1, 2])
def test_a_part_of_the_table_can_be_drawn(number: int, tmp_path: Path) -> None:
    assert write_plot(LINES[:number], tmp_path / "part.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_is_the_same_on_every_run(tmp_path: Path) -> None:
    first, second = (write_plot(LINES, tmp_path / f"{i}.svg").read_bytes() for i in range(2))
    assert first == second
    assert b"<dc:date>" not in first
