"""Run files are read as they are, also while they are being written."""

from __future__ import annotations

from pathlib import Path

import fabricated as fake
import numpy as np
import pytest

from metaformer.run.report.files import read_metrics, read_run


def test_columns_come_back_and_gaps_are_nan(tmp_path: Path) -> None:
    fake.write_metrics(tmp_path, train_top1="")
    metrics = read_metrics(tmp_path / "metrics.csv")
    np.testing.assert_array_equal(metrics.column("top1"), fake.TOP1)
    assert not metrics.has("train_top1")
    assert not metrics.has("no such column")
    assert len(metrics.column("no such column")) == len(metrics) == 4


def test_a_row_cut_in_the_middle_keeps_what_was_written(tmp_path: Path) -> None:
    fake.write_metrics(tmp_path)
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text() + "5,60,0.0")
    metrics = read_metrics(path)
    assert list(metrics.epochs) == [1, 2, 3, 4, 5]
    assert np.isnan(metrics.column("top1")[-1])
    assert metrics.last("top1") == fake.TOP1[-1]


def test_the_best_epoch_is_the_first_at_the_highest_accuracy(tmp_path: Path) -> None:
    fake.write_metrics(tmp_path, top1=("nan", 0.5, 0.75, 0.75), ema_top1=0.75)
    best = read_metrics(tmp_path / "metrics.csv").best
    assert best is not None
    assert (best.epoch, best.share, best.averaged) == (3, 0.75, False)


@pytest.mark.parametrize("text", ["", "epoch,top1\n", "epoch,top1\n1,\n", "\x00\xff"])
def test_a_file_without_accuracies_has_no_best_epoch(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    assert read_metrics(tmp_path / "metrics.csv").best is None


def test_an_evaluation_knows_right_from_wrong(tmp_path: Path) -> None:
    evaluation = read_run(fake.run_folder(tmp_path)).evaluation
    assert evaluation is not None
    assert [sample.right for sample in evaluation.samples] == [False, True, True, False, True, True]
    assert evaluation.samples[0].image is not None
    assert evaluation.samples[0].image.size == (8, 8)
