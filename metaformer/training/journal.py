"""A run's metrics on the disk: ``metrics.csv`` with a row for each epoch, and TensorBoard's event file.

Both survive a kill: a row is written before the checkpoint that counts its epoch, and a resumed run first removes
what the interrupted one wrote after the checkpoint it resumes from.
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
from .state import RENAMED_METRICS

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from .trainer import Trainer

METRICS = "metrics.csv"
_TRAINING_COLUMNS = ("epoch", "update", "lr", "seconds", "samples_per_second", "train_loss")
_EVALUATION_COLUMNS = ("evaluation_samples_per_second",)


class MetricsFile(Observer):
    """``metrics.csv`` in the run's folder. All runs of a task have the same columns; a cell that was not measured is
    empty."""

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.path = Path(METRICS)

    def started(self, trainer: Trainer) -> None:
        """Write the header, and the rows of the epochs that the checkpoint counts."""
        running = [f"train_{name}" for name in trainer.objective.running]
        names = [metric.name for metric in trainer.objective.metrics]
        self.columns = [*_TRAINING_COLUMNS, *running, *_EVALUATION_COLUMNS, *names, *(f"ema_{name}" for name in names)]
        self.path = trainer.folder / METRICS
        kept = [row for row in self._rows() if int(row["epoch"]) <= trainer.state.epoch]
        table = io.StringIO()
        # "ignore" drops columns that version 0.1.0 had; plain newlines keep the file the same on every system
        writer = csv.DictWriter(table, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        replace_file(self.path, table.getvalue().encode())

    def epoch_ended(self, epoch: EpochRecord) -> None:
        """Append a row and wait until it is on the disk."""
        row = io.StringIO()
        values = {name: _format_value(value) for name, value in epoch.metrics.items()}
        writer = csv.DictWriter(row, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writerow({"epoch": epoch.epoch, **values})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(row.getvalue())
                file.flush()
                os.fsync(file.fileno())  # else a crash could keep the checkpoint that comes next and lose the row
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror})") from None

    def _rows(self) -> list[dict[str, Any]]:
        """The complete rows in the file, under present column names."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        # DictReader marks a row of another length with None: as a value where it is short (truncated by a kill), as a
        # key where it is long
        complete = [row for row in rows if None not in row and None not in row.values()]
        return [{RENAMED_METRICS.get(name, name): value for name, value in row.items()} for row in complete]


class Events(Observer):
    """TensorBoard's event file: loss and learning rate by update, metrics by epoch.

    ``max_steps`` limits how many updates of a run are written.
    """

    def __init__(self, max_steps: int = 5000) -> None:
        self.max_steps = max_steps
        self._writer: SummaryWriter | None = None
        self._every = 1

    def started(self, trainer: Trainer) -> None:
        """Open a file; on resume, TensorBoard hides the steps after the checkpoint."""
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._every = max(1, trainer.total_updates // self.max_steps)
        purge = trainer.state.update + 1 if trainer.state.update else None
        self._writer = SummaryWriter(str(trainer.folder), purge_step=purge)

    def stepped(self, step: StepRecord) -> None:
        """Write loss, learning rate and speed of every n-th update."""
        if step.update % self._every == 0:
            values = {"loss": step.loss, "lr": step.lr, "samples_per_second": step.samples_per_second}
            self._write({f"train/{name}": value for name, value in values.items()}, step.update)

    def epoch_ended(self, epoch: EpochRecord) -> None:
        """Write all metrics, with the update as the step."""
        values = {f"epoch/{name}": value for name, value in epoch.metrics.items()}
        self._write(values, int(epoch.metrics["update"]), flush=True)

    def finished(self) -> None:
        """Close the file."""
        if self._writer is not None:
            with suppress(OSError):  # a full disk has been reported already and must not hide the run's own error
                self._writer.close()

    def _write(self, values: Mapping[str, float], update: int, flush: bool = False) -> None:
        assert self._writer is not None, "started() opens the file"
        try:
            for name, value in values.items():
                self._writer.add_scalar(name, value, update)
            if flush:
                self._writer.flush()
        except OSError as error:
            raise RunError(
                f"{self._writer.log_dir}: the TensorBoard events cannot be written ({error.strerror})"
            ) from None


def _format_value(value: float) -> str:
    return str(value) if isinstance(value, int) else format(value, ".6g")
