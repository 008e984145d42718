"""What the demo compares is what it says, its findings follow from the numbers, and a run that breaks is a row."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from metaformer import demo
from metaformer.recipe import Augmentation, DataChoice, Optimisation, Recipe
from metaformer.report.comparison_page import ComparisonRow
from metaformer.spec import ResidualSpec

QUIET = Console(quiet=True)


def measured(title: str, top1: float, error: str | None = None) -> ComparisonRow:
    group = "broken" if title.startswith("no ") else "mixer"
    return ComparisonRow(title, "", group, Path(), 1, 1, 1.0, top1, error)  # type: ignore[arg-type]


def tiny_plan(folder: Path, **moves: object) -> Recipe:
    """One epoch on twelve pictures of 8 × 8."""
    rng = np.random.default_rng(0)
    for name, level in {"dark": 60, "light": 190}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(6):
            pixels = np.clip(level + rng.integers(-40, 40, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return demo.recipe().with_changes(
        data=DataChoice(source=str(folder)),
        augmentation=Augmentation(policy="none"),
        optimisation=Optimisation(**{"epochs": 2, "batch_size": 5, **moves}),  # type: ignore[arg-type]
    )


def test_the_mixer_rows_differ_in_the_mixer_alone() -> None:
    specs = [row.spec for row in demo.rows() if row.group == "mixer"]
    assert len({str(spec.stages[0].mixer) for spec in specs}) == len(specs) == 3
    assert len({spec.with_mixers("pooling").to_json() for spec in specs}) == 1


def test_the_broken_rows_lack_one_part_each() -> None:
    rows = {row.title: row.spec for row in demo.rows()}
    whole = rows["pooling"]
    mended = [s.with_changes(residual=ResidualSpec()) for s in rows["no residual"].stages]
    assert rows["no residual"].with_changes(stages=tuple(mended)) == whole != rows["no residual"]
    mended = [s.with_changes(mlp=w.mlp) for s, w in zip(rows["no channel MLP"].stages, whole.stages, strict=True)]
    assert rows["no channel MLP"].with_changes(stages=tuple(mended)) == whole != rows["no channel MLP"]


def test_findings_follow_the_numbers_even_against_the_paper() -> None:
    agreeing = [measured("identity", 0.97), measured("pooling", 0.98), measured("no residual", 0.3)]
    told = demo.findings(agreeing, 359)
    assert "end close together" in told[0]
    assert "1.0 points apart" in told[0]
    assert "falls by 68.0 points, from 98.00 % to 30.00 %" in told[1]

    against = [measured("identity", 0.60), measured("pooling", 0.90), measured("no residual", 0.99)]
    told = demo.findings(against, 359)
    assert "do not end close together" in told[0]
    assert "rises by 9.0 points, against the paper" in told[1]

    level = [measured("identity", 0.97), measured("pooling", 0.97), measured("no residual", 0.965)]
    assert "does not fall measurably (-0.5 points, within chance)" in demo.findings(level, 359)[1]


def test_findings_name_runs_that_broke_down() -> None:
    rows = [measured("pooling", 0.98), measured("identity", float("nan"), "the loss is nan")]
    rows.append(measured("no residual", float("nan"), "the loss is inf"))
    told = " ".join(demo.findings(rows, 359))
    assert "With identity, the run broke down: the loss is nan" in told
    assert "With no residual, training broke down (the loss is inf)" in told
    assert "close together" not in told


def test_the_accuracy_after_the_last_epoch_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = [row for row in demo.rows() if row.title in ("pooling", "no channel MLP")]
    monkeypatch.setattr(demo, "rows", lambda: two)
    plan = tiny_plan(tmp_path / "data")
    results = demo.compare(tmp_path / "demo", plan, QUIET)
    assert [row.title for row in results] == ["pooling", "no channel MLP"]
    for row in results:
        with (row.folder / "metrics.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        assert row.top1 == pytest.approx(float(last["top1"]), rel=1e-5)
        assert row.parameters > 0 < row.macs
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "no channel MLP" in page
    assert 'src="http' not in page
    again = demo.compare(tmp_path / "demo", plan, QUIET)
    assert [row.top1 for row in again] == [row.top1 for row in results], "the demo starts over in its own folder"


def test_a_run_that_breaks_down_is_a_row(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path / "data", optimiser="sgd", lr=1e30, epochs=4)
    pooling = next(row for row in demo.rows() if row.title == "pooling")
    result = demo.run_row(pooling, tmp_path / "demo", plan, QUIET)
    assert result.error is not None
    assert "training stopped" in result.error
    assert result.top1 != result.top1
    assert result.parameters > 0


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path) -> None:
    """Not its time, which is the machine's, but its numbers."""
    results = {row.title: row for row in demo.compare(tmp_path, console=QUIET)}
    assert results["pooling"].top1 >= 0.97
    assert all(row.error is None for row in results.values())
    assert replace(results["pooling"], top1=0.0).folder == tmp_path / "pooling"
    assert (tmp_path / "report.html").stat().st_size > 50_000
