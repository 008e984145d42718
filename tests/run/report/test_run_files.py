"""Run files are read as they are, also while they are being written."""

from __future__ import annotations

import json
from pathlib import Path

import fabricated as fake
import numpy as np
import pytest

from metaformer.metrics import LOSS
from metaformer.run.report.files import Best, read_metrics, read_run
from metaformer.tasks.classification.metrics import TOP1

WRITTEN = Path(__file__).resolve().parents[2] / "version_0_1_0"


def test_columns_come_back_and_gaps_are_nan(tmp_path: Path) -> None:
    fake.write_metrics(tmp_path, train_top1="")
    metrics = read_metrics(tmp_path / "metrics.csv")
    np.testing.assert_array_equal(metrics.column("top1"), fake.TOP1)
    assert not metrics.has("train_top1")
    assert not metrics.has("no such column")
    assert len(metrics.column("no such column")) == len(metrics) == 4


def test_a_row_truncated_in_the_middle_keeps_what_was_written(tmp_path: Path) -> None:
    fake.write_metrics(tmp_path)
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text() + "5,60,0.0")
    metrics = read_metrics(path)
    assert list(metrics.epochs) == [1, 2, 3, 4, 5]
    assert np.isnan(metrics.column("top1")[-1])
    assert metrics.last("top1") == fake.TOP1[-1]


def test_the_best_epoch_is_the_first_at_the_best_value(tmp_path: Path) -> None:
    fake.write_metrics(tmp_path, top1=("nan", 0.5, 0.75, 0.75), ema_top1=0.5)
    metrics = read_metrics(tmp_path / "metrics.csv")
    assert metrics.best(TOP1) == Best(epoch=3, value=0.75, averaged=False, row=2)
    assert metrics.best(LOSS) == Best(epoch=4, value=0.5, averaged=False, row=3)


@pytest.mark.parametrize("text", ["", "epoch,top1\n", "epoch,top1\n1,\n", "\x00\xff"])
def test_a_file_without_the_metric_has_no_best_epoch(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    assert read_metrics(tmp_path / "metrics.csv").best(TOP1) is None


def test_an_evaluation_knows_right_from_wrong(tmp_path: Path) -> None:
    evaluation = read_run(fake.run_folder(tmp_path)).evaluation
    assert evaluation is not None
    assert [sample.right for sample in evaluation.samples] == [False, True, True, False, True, True]
    assert evaluation.samples[0].image is not None
    assert evaluation.samples[0].image.size == (8, 8)


@pytest.mark.parametrize("name", json.loads((WRITTEN / "pins.json").read_text()))
def test_the_files_of_0_1_0_are_read(name: str) -> None:
    run = read_run(WRITTEN / "runs" / name)
    pins = json.loads((WRITTEN / "pins.json").read_text())[name]
    assert run.config is not None
    assert run.evaluation.metrics == pins["figures"]
    assert run.metrics.last("samples_per_second") > 0
    assert run.best is not None
    assert run.best.epoch == pins["best_epoch"]
    assert run.best.value == pytest.approx(pins["best"], rel=1e-5)
    for column, value in pins["last"].items():
        assert run.metrics.last(column) == pytest.approx(value, rel=1e-5), column
