"""A run's metrics on the disk: ``metrics.csv`` with a row an epoch, and TensorBoard's events.

Both survive a kill: a row is on the disk before the state that counts its epoch, and a resumed run first drops what the
interrupted one wrote beyond the state it resumes from.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from ..files import replace_file
from .observer import EpochRecord, Observer, StepRecord

if TYPE_CHECKING:
    from .trainer import Trainer

METRICS = "metrics.csv"
_TRAINED = ("epoch", "update", "lr", "seconds", "samples_per_second", "train_loss")
_EVALUATED = ("evaluation_samples_per_second",)
RENAMED = {"images_per_second": "samples_per_second", "evaluation_images_per_second": "evaluation_samples_per_second"}
"""Columns of 0.1.0 and what they are called now."""


class MetricsFile(Observer):
    """``metrics.csv`` in the run's folder. The columns are the same in every run of a task; what was not measured
    stays empty."""

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.path = Path(METRICS)

    def started(self, trainer: Trainer) -> None:
        """Write the header, and the rows of the epochs that the state counts."""
        running = [f"train_{name}" for name in trainer.objective.running]
        names = [metric.name for metric in trainer.objective.metrics]
        self.columns = [*_TRAINED, *running, *_EVALUATED, *names, *(f"ema_{name}" for name in names)]
        self.path = trainer.folder / METRICS
        kept = [row for row in self._rows() if int(row["epoch"]) <= trainer.state.epoch]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        replace_file(self.path, text.getvalue().encode())

    def epoch_ended(self, epoch: EpochRecord) -> None:
        """Append a row and wait until it is on the disk."""
        text = io.StringIO()
        values = {name: _text(value) for name, value in epoch.metrics.items()}
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writerow({"epoch": epoch.epoch, **values})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text.getvalue())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror})") from None

    def _rows(self) -> list[dict[str, Any]]:
        """The whole rows in the file; a row that a kill truncated is not one. 0.1.0 had other names and columns."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        whole = [row for row in rows if None not in row and None not in row.values()]
        return [{RENAMED.get(name, name): value for name, value in row.items()} for row in whole]


class Events(Observer):
    """TensorBoard's event file: the loss and the rate of the updates, the metrics of the epochs."""

    def __init__(self, most_steps: int = 5000) -> None:
        self.most_steps = most_steps
        self._writer: Any = None
        self._every = 1

    def started(self, trainer: Trainer) -> None:
        """Open a file; on resume what lies beyond the state is marked as void."""
        from torch.utils.tensorboard import SummaryWriter

        self._every = max(1, trainer.total_updates // self.most_steps)
        purge = trainer.state.update + 1 if trainer.state.update else None
        self._writer = SummaryWriter(str(trainer.folder), purge_step=purge)

    def stepped(self, step: StepRecord) -> None:
        """Loss, rate and speed, thinned out in a long run."""
        if step.update % self._every == 0:
            values = {"loss": step.loss, "lr": step.lr, "samples_per_second": step.samples_per_second}
            self._write({f"train/{name}": value for name, value in values.items()}, step.update)

    def epoch_ended(self, epoch: EpochRecord) -> None:
        """All metrics, over the updates so far."""
        values = {f"epoch/{name}": value for name, value in epoch.metrics.items()}
        self._write(values, int(epoch.metrics["update"]), flush=True)

    def finished(self) -> None:
        """Close the file; what ended the run matters more than what could not be flushed."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()

    def _write(self, values: Mapping[str, float], update: int, flush: bool = False) -> None:
        try:
            for name, value in values.items():
                self._writer.add_scalar(name, value, update)
            if flush:
                self._writer.flush()
        except OSError as error:
            raise RunError(f"{self._writer.log_dir}: the events cannot be written ({error.strerror})") from None


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else format(value, ".6g")
