"""The progress of a sweep on the terminal: a bar for all epochs, one for each running run, a line per result.

The metric is read from the runs' own ``metrics.csv``, so that runs on this machine and on a cluster look alike.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..metrics import MetricDef
from ..render.numbers import metric_text
from ..training.journal import METRICS
from .folder import SETTLED
from .job import Job, JobResult


class SweepProgress:
    """Bars on a terminal, lines elsewhere; a context that ends them."""

    def __init__(self, console: Console, metric: MetricDef) -> None:
        self.console, self.metric = console, metric
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[text]}", style="dim"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._jobs: dict[str, Job] = {}
        self._run_bars: dict[str, TaskID] = {}
        self._epochs: dict[str, int] = {}
        self._settled: set[str] = set()

    def __enter__(self) -> SweepProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, jobs: Sequence[Job], settled: set[str]) -> None:
        """Show all jobs; those in ``settled`` are done already."""
        self._jobs = {job.run: job for job in jobs}
        self._settled = self._jobs.keys() & settled
        self._epochs = {run: _total_epochs(self._jobs[run]) for run in self._settled}
        total = sum(map(_total_epochs, jobs))
        self._sweep_bar = self._bars.add_task(
            "sweep", total=total, completed=sum(self._epochs.values()), unit="epochs", text=self._count()
        )
        done = f", {len(self._settled)} of them done already" if self._settled else ""
        self.console.print(f"{len(jobs)} run{'s' * (len(jobs) != 1)}{done}", highlight=False)

    def update(self, running: Sequence[Job]) -> None:
        """Show how far the running jobs are."""
        for job in running:
            epoch, value = self._last_epoch(job)
            self._epochs[job.run] = epoch
            if job.run not in self._run_bars:
                bar = self._bars.add_task(f"  {job.run}", total=_total_epochs(job), unit="epochs", text="")
                self._run_bars[job.run] = bar
            text = "" if value is None else f"{self.metric.label} {metric_text(self.metric, value, 1)}"
            self._bars.update(self._run_bars[job.run], completed=epoch, text=text)
        self._bars.update(self._sweep_bar, completed=sum(self._epochs.values()), text=self._count())

    def end_run(self, result: JobResult) -> None:
        """Print a run's result and remove its bar."""
        job = self._jobs[result.run]
        bar = self._run_bars.pop(result.run, None)
        if bar is not None:
            self._bars.remove_task(bar)
        text = f"{result.event}: {result.reason}"
        if result.event == "finished":
            _, value = self._last_epoch(job)
            reached = "" if value is None else f"{self.metric.label} {metric_text(self.metric, value):>8}  "
            text = f"{reached}{result.seconds:6.1f} s"
        if result.event in SETTLED:
            self._settled.add(result.run)
            self._epochs[result.run] = _total_epochs(job)
        self.console.print(f"  {result.run:<40} {text}", highlight=False, markup=False)

    def _last_epoch(self, job: Job) -> tuple[int, float | None]:
        """The number of a run's last complete epoch and its metric; (0, None) before the first."""
        try:
            with (Path(job.folder) / METRICS).open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            return int(rows[-1]["epoch"]), float(rows[-1][self.metric.name])
        except (OSError, IndexError, KeyError, ValueError, TypeError):
            return 0, None  # no file yet, or a row that is just being written

    def _count(self) -> str:
        return f"{len(self._settled)} of {len(self._jobs)} runs"


def _total_epochs(job: Job) -> int:
    return job.recipe.optimizer.total_epochs
