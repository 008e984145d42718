"""The metrics on the disk, and the lines on the screen."""

import csv
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from tiny_training import tiny_trainer

from metaformer.errors import RunError
from metaformer.metrics import MetricDef
from metaformer.training.journal import Events, MetricsFile
from metaformer.training.observer import EpochRecord
from metaformer.training.progress import ProgressBars
from metaformer.training.state import RENAMED_METRICS


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_row_an_epoch_with_every_column(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, ema_decay=0.9, observers=[MetricsFile()])
    result = trainer.fit()
    first, second = rows_of(tmp_path)
    columns = ["epoch", "update", "lr", "seconds", "samples_per_second", "train_loss", "train_top1"]
    columns.append("evaluation_samples_per_second")
    assert list(first) == [*columns, "loss", "top1", "top5", "ema_loss", "ema_top1", "ema_top5"]
    assert (first["epoch"], first["update"], second["epoch"], second["update"]) == ("1", "3", "2", "6")
    assert float(second["top1"]) == pytest.approx(result.metrics["top1"], rel=1e-5)
    assert all(second.values())
    assert float(second["evaluation_samples_per_second"]) > 15 / float(second["seconds"])  # it is part of the epoch


def test_what_is_not_measured_stays_empty(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, observers=[MetricsFile()]).fit()
    assert {row["ema_top1"] for row in rows_of(tmp_path)} == {""}
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_rows_beyond_the_state_are_dropped_on_resume(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, epochs=3, observers=[MetricsFile()])
    trainer.fit()
    path = tmp_path / "metrics.csv"
    whole = path.read_text()
    path.write_text(whole + "4,12,0.1\n")  # a row truncated by a kill
    again = MetricsFile()
    trainer.state.epoch = 2
    again.started(trainer)
    assert path.read_text() == "".join(whole.splitlines(keepends=True)[:3])
    trainer.state.epoch = 0
    again.started(trainer)
    assert rows_of(tmp_path) == []


def test_a_run_of_an_earlier_version_keeps_its_rows(tmp_path: Path) -> None:
    """It calls samples images, or has no speed of evaluation at all."""
    trainer = tiny_trainer(tmp_path, epochs=2, observers=[MetricsFile()])
    trainer.fit()
    before = rows_of(tmp_path)
    former = {current: name for name, current in RENAMED_METRICS.items()}
    earlier = [
        {former.get(name, name): row[name] for name in row if name != "evaluation_samples_per_second"} for row in before
    ]
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(earlier[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(earlier)
    journal = MetricsFile()
    journal.started(trainer)
    journal.epoch_ended(EpochRecord(epoch=3, metrics={"loss": 1.0, "evaluation_samples_per_second": 7.5}))
    kept = rows_of(tmp_path)
    assert kept[:2] == [row | {"evaluation_samples_per_second": ""} for row in before]
    assert (kept[2]["epoch"], kept[2]["evaluation_samples_per_second"]) == ("3", "7.5")


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    journal = MetricsFile()
    journal.path = tmp_path / "gone" / "metrics.csv"
    with pytest.raises(RunError, match=r"metrics\.csv: cannot be written"):
        journal.epoch_ended(EpochRecord(epoch=1, metrics={"loss": 1.0}))


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = tiny_trainer(tmp_path, observers=[Events()]).fit()
    seen = EventAccumulator(str(tmp_path)).Reload()
    assert len(seen.Scalars("train/loss")) == 6
    assert [event.step for event in seen.Scalars("epoch/top1")] == [3, 6]
    assert seen.Scalars("epoch/top1")[-1].value == pytest.approx(result.metrics["top1"])


def test_without_a_terminal_there_is_one_line_an_epoch(tmp_path: Path) -> None:
    text = io.StringIO()
    tiny_trainer(tmp_path, observers=[ProgressBars("pooling", Console(file=text, width=160))]).fit()
    lines = text.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("pooling epoch 2/2  train loss ")
    assert all(word in lines[1] for word in ("top-1", "samples/s", "%"))


def test_the_line_of_an_epoch_has_each_shown_metric_in_its_unit() -> None:
    metrics = (
        MetricDef(name="error", label="error", unit="nats", better="lower", shown=True),
        MetricDef(name="quality", label="quality", shown=True),
        MetricDef(name="hidden", label="hidden"),
    )
    text = io.StringIO()
    bars = ProgressBars(console=Console(file=text, width=160))
    bars.started(SimpleNamespace(total_epochs=2, objective=SimpleNamespace(metrics=metrics)))  # type: ignore[arg-type]
    values = {"train_loss": 1.25, "error": 0.5, "ema_error": 0.4, "quality": 0.5, "ema_quality": 0.6, "hidden": 0.1}
    bars.epoch_ended(EpochRecord(epoch=1, metrics={**values, "samples_per_second": 1234.0, "seconds": 2.0}))
    assert text.getvalue() == (
        "epoch 1/2  train loss 1.250  error 0.500  quality 50.0%  averaged 60.0%  1,234 samples/s  2.0 s\n"
    )


def test_on_a_terminal_bars_show_loss_metrics_speed_and_time_left(tmp_path: Path) -> None:
    text = io.StringIO()
    console = Console(file=text, width=160, force_terminal=True)
    bars = ProgressBars(console=console)
    tiny_trainer(tmp_path, observers=[bars], ema_decay=0.9).fit()
    shown = text.getvalue()
    assert "━" in shown
    assert all(word in shown for word in ("loss", "top-1", "samples/s", "epoch 2/2", "averaged", "6/6"))
