"""A run folder as data for its report: config.json, metrics.csv and evaluation.json in, records and arrays out.

A file that is not there yet is None (the run may have just begun); a file that cannot be read is a ``RunError`` that
names it. E is the number of finished epochs.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import RunError
from ...evaluation import Evaluation
from ...metrics import MetricDef
from ...tasks.task import TASKS, Task, task_named
from ...training.journal import METRICS, RENAMED
from ..config import RunConfig, is_run
from ..evaluation_file import read_evaluation

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Best:
    """The epoch with the best value of the primary metric."""

    epoch: int
    value: float
    averaged: bool
    """Whether the averaged weights (EMA) reached it."""
    row: int
    """Its row in metrics.csv."""


@dataclass(frozen=True)
class MetricsTable:
    """metrics.csv by column; a row an epoch, NaN where nothing was written."""

    columns: Mapping[str, Values] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def epochs(self) -> Values:
        """(E,) the number of each epoch, as it stands in the file."""
        return self.columns.get("epoch", np.empty(0))

    def column(self, name: str) -> Values:
        """(E,) one column over the epochs; all NaN where the file does not have it."""
        return self.columns.get(name, np.full(len(self), np.nan))

    def has(self, name: str) -> bool:
        """Whether the column was measured at least once."""
        return bool(np.isfinite(self.column(name)).any())

    @property
    def measured(self) -> tuple[str, ...]:
        """The columns that were measured, by the trained or by the averaged weights."""
        return tuple(dict.fromkeys(name.removeprefix("ema_") for name in self.columns if self.has(name)))

    def last(self, name: str) -> float:
        """The value after the last epoch in which it was measured, NaN if never."""
        seen = self.column(name)[np.isfinite(self.column(name))]
        return float(seen[-1]) if len(seen) else float("nan")

    def best(self, metric: MetricDef) -> Best | None:
        """The epoch that the trainer takes for the best: the first one at the best value, and in it the trained weights
        unless the averaged ones are better. None where the metric was never measured."""
        found = None
        columns = self.column(metric.name).tolist(), self.column(f"ema_{metric.name}").tolist()
        for row, values in enumerate(zip(*columns, strict=True)):
            for value, averaged in zip(values, (False, True), strict=True):
                if np.isfinite(value) and metric.is_better(value, found.value if found else None):
                    found = Best(int(self.epochs[row]), value, averaged, row)
        return found


@dataclass(frozen=True)
class RunFiles:
    """Everything the report reads of one run."""

    folder: Path
    config: RunConfig | None
    metrics: MetricsTable
    evaluation: Any | None
    """The task's evaluation."""

    @property
    def task(self) -> Task:
        """As the files say it; the table's first where none does."""
        if self.config is not None:
            return self.config.task
        return task_named(self.evaluation.task if self.evaluation is not None else next(iter(TASKS)))

    @property
    def primary(self) -> MetricDef:
        """The metric that decides which epoch is the best."""
        evaluation: Evaluation | None = self.evaluation
        measured = (*self.metrics.measured, *(evaluation.metrics if evaluation else ()))
        return self.config.primary_metric(measured) if self.config else self.task.primary(measured)

    @property
    def best(self) -> Best | None:
        """The best epoch."""
        return self.metrics.best(self.primary)


def read_run(folder: Path | str) -> RunFiles:
    """Read a run folder. ``RunError`` when there is no such folder or a file in it is damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such run folder; pass the folder that training wrote")
    config = RunConfig.read(folder) if is_run(folder) else None
    evaluation = read_evaluation(folder, config.task if config else None)
    return RunFiles(folder, config, read_metrics(folder / METRICS), evaluation)


def read_metrics(path: Path) -> MetricsTable:
    """metrics.csv as columns. A row without an epoch, as a truncated last line has, is left out."""
    if not path.is_file():
        return MetricsTable()
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if np.isfinite(_number(row.get("epoch")))]
        names = [name for name in reader.fieldnames or () if name]
    columns = {name: np.array([_number(row.get(name)) for row in rows], dtype=float) for name in names}
    return MetricsTable({RENAMED.get(name, name): values for name, values in columns.items()})


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
