"""A run folder as data for its report: config.json, metrics.csv and evaluation.json in, records and arrays out.

A file that does not exist yet is None, since a report can be written at any time; a file that cannot be read raises a
``RunError`` with its path. E is the number of finished epochs.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import RunError
from ...evaluation import Evaluation
from ...metrics import MetricDef
from ...tasks.task import TASKS, Task, task_named
from ...training.journal import METRICS
from ...training.state import RENAMED_METRICS
from ..config import RunConfig, is_run
from ..evaluation_file import read_evaluation

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Best:
    """The epoch with the best value of the primary metric."""

    epoch: int
    value: float
    averaged: bool
    """Whether it is a value of the averaged weights (EMA)."""
    row: int
    """The index of its row in metrics.csv."""


@dataclass(frozen=True)
class MetricsTable:
    """metrics.csv by column, with a row for each epoch and NaN for empty cells."""

    columns: Mapping[str, Values] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def epochs(self) -> Values:
        """(E,) the number of each epoch in the file; the first is 1."""
        return self.columns.get("epoch", np.empty(0))

    def column(self, name: str) -> Values:
        """(E,) one column; all NaN where the file does not have it."""
        return self.columns.get(name, np.full(len(self), np.nan))

    def has(self, name: str) -> bool:
        """Whether the column has at least one finite value."""
        return bool(np.isfinite(self.column(name)).any())

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of the columns with values, without the prefix of averaged weights."""
        return tuple(dict.fromkeys(name.removeprefix("ema_") for name in self.columns if self.has(name)))

    def last(self, name: str) -> float:
        """The last finite value of a column; NaN where there is none."""
        values = self.column(name)
        finite = values[np.isfinite(values)]
        return float(finite[-1]) if len(finite) else float("nan")

    def best(self, metric: MetricDef) -> Best | None:
        """The best epoch, by the trainer's rule: the first with the best value; in it, the trained weights unless the
        averaged ones are better. None where the metric was not measured."""
        best = None
        columns = self.column(metric.name).tolist(), self.column(f"ema_{metric.name}").tolist()
        for row, values in enumerate(zip(*columns, strict=True)):
            for value, averaged in zip(values, (False, True), strict=True):
                if np.isfinite(value) and metric.is_better(value, best.value if best else None):
                    best = Best(int(self.epochs[row]), value, averaged, row)
        return best


@dataclass(frozen=True)
class RunFiles:
    """The files of one run."""

    folder: Path
    config: RunConfig | None
    metrics: MetricsTable
    evaluation: Evaluation | None
    """The task's record."""

    @property
    def task(self) -> Task:
        """The task in config.json or evaluation.json; the first of ``TASKS`` where both are missing."""
        if self.config is not None:
            return self.config.task
        return task_named(self.evaluation.task if self.evaluation is not None else next(iter(TASKS)))

    @property
    def primary(self) -> MetricDef:
        """The metric that selects the best epoch."""
        measured = (*self.metrics.measured, *(self.evaluation.metrics if self.evaluation else ()))
        return self.config.primary_metric(measured) if self.config else self.task.primary(measured)

    @property
    def best(self) -> Best | None:
        """The best epoch."""
        return self.metrics.best(self.primary)


def read_run(folder: Path | str) -> RunFiles:
    """Read a run folder; raises ``RunError`` when it does not exist or a file in it is damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such run folder; pass the folder that training wrote")
    config = RunConfig.read(folder) if is_run(folder) else None
    evaluation = read_evaluation(folder, config.task if config else None)
    return RunFiles(folder, config, read_metrics(folder / METRICS), evaluation)


def read_metrics(path: Path) -> MetricsTable:
    """metrics.csv as columns."""
    if not path.is_file():
        return MetricsTable()
    # errors="replace": a damaged byte costs its cell and not the report
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        # a line that a kill truncated may have no epoch
        rows = [row for row in reader if np.isfinite(_number(row.get("epoch")))]
        names = [name for name in reader.fieldnames or () if name]
    columns = {name: np.array([_number(row.get(name)) for row in rows], dtype=float) for name in names}
    return MetricsTable({RENAMED_METRICS.get(name, name): values for name, values in columns.items()})


def _number(value: str | None) -> float:
    try:
        return float(value or "nan")
    except ValueError:
        return float("nan")
