"""What a person sees of a sweep: a bar over all epochs, a line for each run at work, a line for each that is settled.

The figures are read from the runs' own ``metrics.csv``, so that they come from this machine and from a cluster alike.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..training.journal import METRICS
from .job import Job, Outcome


class SweepProgress:
    """Bars on a terminal, lines elsewhere; a context that ends them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            TextColumn("{task.fields[told]}", style="dim"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._jobs: dict[str, Job] = {}
        self._lines: dict[str, object] = {}
        self._epochs: dict[str, int] = {}
        self._settled: set[str] = set()

    def __enter__(self) -> SweepProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begins(self, jobs: Sequence[Job], settled: set[str]) -> None:
        """What there is to do, and what is done already."""
        self._jobs = {job.run: job for job in jobs}
        self._settled = {job.run for job in jobs if job.run in settled}
        self._epochs = {run: _total(self._jobs[run]) for run in self._settled}
        total = sum(_total(job) for job in jobs)
        self._all = self._bars.add_task(
            "sweep", total=total, completed=sum(self._epochs.values()), unit="epochs", told=self._count()
        )
        done = f", {len(self._settled)} of them done already" if self._settled else ""
        self.console.print(f"{len(jobs)} run{'s' * (len(jobs) != 1)}{done}", highlight=False)

    def look(self, busy: Sequence[Job]) -> None:
        """How far the runs at work are."""
        for job in busy:
            epoch, top1 = _last_epoch(Path(job.folder) / METRICS)
            self._epochs[job.run] = epoch
            if job.run not in self._lines:
                self._lines[job.run] = self._bars.add_task(f"  {job.run}", total=_total(job), unit="epochs", told="")
            told = f"top-1 {100 * top1:.1f} %" if top1 is not None else ""
            self._bars.update(self._lines[job.run], completed=epoch, told=told)  # type: ignore[arg-type]
        self._bars.update(self._all, completed=sum(self._epochs.values()), told=self._count())

    def settled(self, outcome: Outcome) -> None:
        """A run has come to something."""
        job = self._jobs[outcome.run]
        line = self._lines.pop(outcome.run, None)
        if line is not None:
            self._bars.remove_task(line)  # type: ignore[arg-type]
        if outcome.event in ("finished", "broke down"):
            self._settled.add(outcome.run)
            self._epochs[outcome.run] = _total(job)
        self.console.print(f"  {outcome.run:<40} {_said(outcome, job)}", highlight=False, markup=False)

    def _count(self) -> str:
        return f"{len(self._settled)} of {len(self._jobs)} runs"


def _total(job: Job) -> int:
    return job.recipe.optimizer.total_epochs


def _said(outcome: Outcome, job: Job) -> str:
    if outcome.event == "finished":
        _, top1 = _last_epoch(Path(job.folder) / METRICS)
        share = "" if top1 is None else f"top-1 {100 * top1:6.2f} %  "
        return f"{share}{outcome.seconds:6.1f} s"
    return f"{outcome.event}: {outcome.reason}"


def _last_epoch(path: Path) -> tuple[int, float | None]:
    """The number of the last whole epoch of a run and its accuracy; (0, None) before the first."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return int(rows[-1]["epoch"]), float(rows[-1]["top1"])
    except (OSError, IndexError, KeyError, ValueError, TypeError):
        return 0, None  # nothing there yet, or a line that is being written
