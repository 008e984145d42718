"""The report of a sweep is one safe page with its tables and figures, at every stage; sweeps are compared by name."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import fabricated as fake
import fabricated_sweep as made_up
import pytest
from pages import assert_self_contained, read, undrawn  # noqa: F401 a fixture
from PIL import Image

from metaformer.ablation.report.comparison import write_sweep_comparison
from metaformer.ablation.report.findings import findings
from metaformer.ablation.report.page import write_sweep_page
from metaformer.ablation.report.plots import close_scale, spread
from metaformer.ablation.report.results import read_results
from metaformer.ablation.report.table import terminal_table
from metaformer.cli.app import main
from metaformer.errors import RunError
from metaformer.tasks.classification.metrics import TOP1

TABLES = ("table.csv", "table.json", "table.md")
FIGURES = ("variants.png", "macs.png", "curves.png", "published.png")


def test_a_whole_sweep_gives_a_page_its_tables_and_figures(tmp_path: Path) -> None:
    page = write_sweep_page(made_up.sweep_folder(tmp_path))
    assert page == tmp_path / "report.html"
    assert_self_contained(page)
    assert all((tmp_path / name).stat().st_size for name in TABLES)
    for name in FIGURES:
        with Image.open(tmp_path / name) as image:
            image.verify()
            assert min(image.size) > 200
    assert page.read_text().count("<svg") == 4


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_what_the_files_say(tmp_path: Path) -> None:
    text = read(write_sweep_page(made_up.sweep_folder(tmp_path))).text
    for expected in (
        "What makes PoolFormer work", "What does it need?", "SiLU was <left> as it is", "no <shortcut>",
        "93.60 ± 0.60", "−3.15 to −2.65", "2 of 3 diverged", "Worker time34 min 40 s", "Wall time18 min 45 s",
        "Overhead12.0 %", "metaformer ablate paper --seeds 3", "Commit0123abc", "An Old Abacus",
        "diverged: the loss is inf in epoch 2, update 1 of 40", "runs/no-residual/seed-2",
        "after MetaFormer, table 5", "counts as chance (10 %)", "Bonett and Wright",
    ):  # fmt: skip
        assert expected in text, expected
    assert "not finished" not in text
    assert "Inferencesamples/s" not in text
    assert all(sentence in text for sentence in findings(read_results(tmp_path)))


@pytest.mark.usefixtures("undrawn")
def test_inference_speed_is_shown_where_it_was_measured(tmp_path: Path) -> None:
    folder = made_up.sweep_folder(tmp_path)
    metrics = folder / "runs/identity/seed-0/metrics.csv"
    lines = metrics.read_text().splitlines()
    added = ["evaluation_samples_per_second", "1000", "3000", "5000", "2000"]
    metrics.write_text("\n".join(f"{line},{value}" for line, value in zip(lines, added, strict=True)))
    text = read(write_sweep_page(folder)).text
    assert "Inferencesamples/s" in text
    assert "2,500" in text  # the median


@pytest.mark.usefixtures("undrawn")
def test_an_unfinished_sweep_says_so_at_the_top(tmp_path: Path) -> None:
    folder = made_up.sweep_folder(tmp_path, results=made_up.RESULTS | {"BatchNorm": (0.95, None, None)})
    text = read(write_sweep_page(folder)).text
    assert text.index("not finished: it has results of 16 of 18 runs") < text.index("of the base, PoolFormer")


@pytest.mark.parametrize("kept", [0, 1])
def test_hardly_anything_still_makes_a_page_with_figures(tmp_path: Path, kept: int) -> None:
    """No run at all, or one seed of the base alone."""
    empty = {one.name: (None, None, None) for one in made_up.VARIANTS}
    folder = made_up.sweep_folder(tmp_path, results=empty | ({"PoolFormer": (0.9, None, None)} if kept else {}))
    text = read(write_sweep_page(folder)).text
    assert f"not finished: it has results of {kept} of 18 runs" in text
    assert (folder / "variants.png").is_file() == bool(kept)
    assert terminal_table(read_results(folder)).row_count == 6


def test_when_every_run_diverged_there_is_a_page(tmp_path: Path) -> None:
    text = read(
        write_sweep_page(made_up.sweep_folder(tmp_path, results=dict.fromkeys(made_up.RESULTS, ("nan",) * 3)))
    ).text
    assert "3 of 3 diverged" in text
    assert "10.00 ± 0.00" in text


@pytest.mark.usefixtures("undrawn")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    folder = made_up.sweep_folder(tmp_path)
    (folder / "table.csv").mkdir()
    with pytest.raises(RunError, match=r"the report cannot be written .* the runs are kept"):
        write_sweep_page(folder)


def test_a_metric_that_is_better_when_lower_is_drawn_and_named(tmp_path: Path) -> None:
    losses = {
        name: [None if result is None else "nan" if isinstance(result, str) else 1.5 - result for result in found]
        for name, found in made_up.RESULTS.items()
    }
    page = write_sweep_page(made_up.sweep_folder(tmp_path, results=losses, metric=made_up.LOSS, chance=None))
    text = read(page).text
    assert page.read_text().count("<svg") == 4
    assert "Loss,n = 3 seeds" in text
    assert "A triangle at the edge is a variant far above" in text
    assert "top-1" not in text.lower()
    assert "%" not in text.split("Every variant")[1].split("Mean ±")[0]


def test_an_axis_belongs_to_the_many() -> None:
    scale = close_scale([97, 96.5, 96, 97.5, 95.8, 96.9, 10.0, 40.0], TOP1)
    assert 90 < scale.low < 95.8
    assert scale.high > 97.5
    assert close_scale([10.0, 90.0], TOP1).holds(10.0)
    losses = close_scale([0.3, 0.35, 0.32, 0.31, 0.36, 0.33, 2.3, 9.0], made_up.LOSS)
    assert 0.36 < losses.high < 2.3
    assert (losses.clip(9.0), losses.clip(0.1)) == (losses.high, 0.1)


def test_names_in_a_column_keep_their_distance() -> None:
    placed = spread([0.9, 0.9, 0.89, 0.1, 0.0, 0.0], 0.1)
    assert placed == sorted(placed, reverse=True)
    assert min(a - b for a, b in pairwise(placed)) >= 0.1 - 1e-12
    assert min(placed) >= 0
    assert spread([0.9, 0.5], 0.1) == [0.9, 0.5]


# Sweeps side by side.


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """The same plan twice; in the second attention comes last of the mixers, and BatchNorm is not there."""
    fewer = [one for one in made_up.VARIANTS if one.name != "BatchNorm"]
    found = made_up.RESULTS | {"attention": (0.9, 0.91, 0.906)}
    first = made_up.sweep_folder(tmp_path / "digits")
    return [first, made_up.sweep_folder(tmp_path / "flowers", fewer, found, command="metaformer ablate flowers")]


def test_sweeps_are_compared_by_name(two: list[Path]) -> None:
    page = write_sweep_comparison(two)
    assert page == two[0] / "comparison" / "report.html"
    assert_self_contained(page)
    text = read(page).text
    for expected in (
        "2 sweeps side by side", "Between digits and flowers, Spearman's ρ is 0.70", "metaformer ablate flowers",
        "Significantly worse than the baseline in every sweep: identity; no residual; no channel MLP.",
    ):  # fmt: skip
        assert expected in text, expected
    with (page.parent / "comparison.csv").open() as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert rows["BatchNorm"]["flowers top1_percent"] == ""
    assert float(rows["attention"]["flowers top1_percent"]) == pytest.approx(90.5333, abs=1e-4)
    document = json.loads((page.parent / "comparison.json").read_text())
    assert [entry["between"] for entry in document["rank_correlations"]] == [
        ["digits", "flowers"], ["digits", "published"], ["flowers", "published"],
    ]  # fmt: skip
    assert (page.parent / "variants.png").is_file()


def test_what_cannot_be_compared_is_refused(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a sweep was given twice"):
        write_sweep_comparison([two[0], two[0]])
    with pytest.raises(RunError, match="two or more sweeps, got 1 folder"):
        write_sweep_comparison(two[:1])
    with pytest.raises(RunError, match="contains a run or a sweep"):
        write_sweep_comparison(two, two[1])
    other = made_up.sweep_folder(tmp_path / "other", [made_up.variant("ViT", "base")], {"ViT": (0.9, 0.9, 0.9)})
    with pytest.raises(RunError, match="digits and other have no variant in common"):
        write_sweep_comparison([two[0], other])


# The command.


def report(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["report", *words])
    out, err = capsys.readouterr()
    return status, out, " ".join(err.split())


@pytest.mark.usefixtures("undrawn")
def test_report_rebuilds_sweeps_and_compares_two(
    two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = map(str, two)
    assert report(capsys, first) == (0, f"{first}/report.html\n", "")
    status, out, _ = report(capsys, first, second, "--out", str(tmp_path / "both"))
    assert status == 0
    assert out.split() == [f"{first}/report.html", f"{second}/report.html", f"{tmp_path}/both/report.html"]


@pytest.mark.usefixtures("undrawn")
def test_report_refuses_what_does_not_go_together(
    two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(fake.run_folder(tmp_path / "run"))
    sweep, empty = str(two[0]), str(tmp_path)
    for words, message in (
        ((sweep, run), "is a sweep folder and"),
        ((sweep, empty), "expected a run folder, with config.json and metrics.csv, or a sweep folder"),
        ((sweep, "--out", empty), "--out is for the comparison of two or more sweeps"),
        ((run, "--out", empty), "--out is for the comparison of two or more sweeps"),
        ((sweep, sweep), "a sweep was given twice"),
    ):
        status, out, err = report(capsys, *words)
        assert (status, out) == (2, "")
        assert message in err
