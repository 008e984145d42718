"""A sweep's folder as data: its plan, its journal and its run folders in, records out.

A run that is not there yet, or not finished, is missing, which is no error. A damaged file of a run is that run's
problem; a damaged plan or journal is a ``RunError`` that names it. Values are of the task's primary metric, shares in
percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from ...errors import RunError
from ...render.numbers import known
from ...run.folder import EVALUATION
from ...run.report.files import RunFiles, read_run
from ..folder import PLAN, JournalEvent, SweepFolder, SweepPlan, is_sweep
from ..plan import Variant
from .formatting import factor


@dataclass(frozen=True)
class SweepRun:
    """One variant trained with one seed."""

    variant: str
    seed: int
    key: str
    """``VARIANT/seed-N``, its name in the journal."""
    files: RunFiles | None
    """None if it was not started."""
    diverged: str | None
    """Why training could not continue, such as a loss that is not finite; None for any other run."""
    value: float | None
    """The metric of the evaluated weights; chance for a run that diverged; None for a run that is not finished."""
    problem: str | None = None
    """Why there is no result, if something went wrong: its process died, its code raised, its files are damaged."""

    @property
    def finished(self) -> bool:
        """Whether there is a result, good or bad: a run that diverged has one."""
        return self.value is not None or self.diverged is not None

    @property
    def state(self) -> str:
        """``finished``, ``diverged`` or ``not finished``."""
        return "diverged" if self.diverged is not None else "finished" if self.finished else "not finished"


@dataclass(frozen=True)
class Session:
    """One start of the sweep until its end, or until it was killed."""

    workers: int
    where: str
    seconds: float
    """Wall time; up to the last event if it was killed."""


@dataclass(frozen=True)
class SweepFiles:
    """Everything the report reads of a sweep."""

    folder: Path
    plan: SweepPlan
    runs: tuple[SweepRun, ...]
    """Every planned run, variant by variant, seed by seed."""
    journal: tuple[JournalEvent, ...]

    @cached_property
    def of_variant(self) -> Mapping[str, tuple[SweepRun, ...]]:
        """The runs of each variant, in the order of the seeds."""
        return {v.name: tuple(run for run in self.runs if run.variant == v.name) for v in self.plan.variants}

    @property
    def chance(self) -> float | None:
        """The metric when guessing; None where it has no such value."""
        return None if self.plan.chance is None else factor(self.plan.metric) * self.plan.chance

    @property
    def done(self) -> int:
        """How many runs have a result."""
        return sum(run.finished for run in self.runs)

    @cached_property
    def sessions(self) -> tuple[Session, ...]:
        """Each start of the sweep, in order."""
        starts = [i for i, event in enumerate(self.journal) if event.event == "sweep started"]
        return tuple(_session(self.journal[i:j]) for i, j in pairwise([*starts, len(self.journal)]))

    @property
    def worker_seconds(self) -> float:
        """What the workers spent on runs that have a result."""
        return sum(event.seconds or 0.0 for event in self.journal if event.event in ("finished", "diverged"))

    @property
    def title(self) -> str:
        """The plan's title, or its name."""
        return self.plan.title or self.plan.name


def read_sweep(folder: Path | str) -> SweepFiles:
    """Read a sweep's folder.

    Raises:
        RunError: there is no plan in it, or the plan or the journal is damaged.
    """
    folder = Path(folder)
    if not is_sweep(folder):
        raise RunError(f"{folder}: expected a sweep's folder, with the {PLAN} that `metaformer ablate` writes")
    sweep = SweepFolder(folder)
    plan, journal = sweep.read_plan(), tuple(sweep.read_journal())
    # A run that diverged once may have been trained again, with another outcome: its last event counts.
    last = {event.run: event for event in journal if event.run is not None}
    runs = tuple(
        _read_run(sweep, plan, variant, seed, last.get(f"{variant.slug}/seed-{seed}"))
        for variant in plan.variants
        for seed in plan.seeds
    )
    return SweepFiles(folder, plan, runs, journal)


def _read_run(sweep: SweepFolder, plan: SweepPlan, variant: Variant, seed: int, last: JournalEvent | None) -> SweepRun:
    """A run from its folder and its last event in the journal."""
    key = f"{variant.slug}/seed-{seed}"
    diverged = problem = None
    if last is not None and last.event == "diverged":
        diverged = last.reason or "no reason given"
    if last is not None and last.event in ("died", "crashed", "failed"):
        problem = last.reason or "no reason given"
    folder = sweep.run(key)
    try:
        files = read_run(folder) if folder.is_dir() else None
        value = plan.chance if diverged is not None else _read_value(files, plan.metric.name)
    except RunError as error:
        advice = "`metaformer ablate --resume` trains it again"
        return SweepRun(variant.name, seed, key, None, None, None, f"{error}; {advice}")
    if value is not None:
        value *= factor(plan.metric)
    return SweepRun(variant.name, seed, key, files, diverged, value, problem if value is None else None)


def _read_value(files: RunFiles | None, metric: str) -> float | None:
    """The metric of a run's evaluation; None before it has one."""
    if files is None or files.evaluation is None:
        return None
    value = files.evaluation.metrics.get(metric)
    if not known(value):
        raise RunError(f"{files.folder / EVALUATION}: expected metrics with a {metric}; evaluate the run again")
    return value


def _session(events: Sequence[JournalEvent]) -> Session:
    first = events[0]
    ends = (event.seconds for event in events if event.event == "sweep ended")
    seconds = next(ends, None)
    return Session(first.workers or 1, first.where or "", events[-1].time - first.time if seconds is None else seconds)
