"""A sweep: every row of a plan with every seed, trained by a crew, its results in a folder. The lab's algorithm.

In: a plan, images, a folder, a crew. Out: run folders, a journal and the report. What a run came to is on the disk
before the next thing happens, so a sweep that is killed at any instant goes on where it was.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..spec.model import AnySpec
from ..training.interrupt import Interrupts, SweepInterrupted
from .executors import Crew
from .folder import SETTLED, SweepFolder, expect_same_plan
from .job import Job, Outcome
from .lock import locked
from .plan import DataFacts, Variant
from .progress import SweepProgress

ATTEMPTS = 3
"""How often a run is begun whose process dies."""
BREATH = 0.5
"""Seconds between two looks at the runs' progress."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Everything that is to be trained, resolved."""

    name: str
    title: str
    question: str
    source: str
    variants: tuple[Variant, ...]
    """The rows, the base first."""
    seeds: tuple[int, ...]
    facts: DataFacts
    plan_file: Path
    notes: tuple[str, ...] = ()
    """What is odd about the plan, in sentences."""
    command: str = ""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise RunError("seeds: expected at least 1, got 0")

    def to_dict(self) -> dict[str, Any]:
        """As plan.json has it."""
        from ..version import __version__

        return {
            "name": self.name,
            "title": self.title,
            "question": self.question,
            "source": self.source,
            "base": self.variants[0].name,
            "variants": [{**row.with_changes(spec=named(row.spec)).to_dict()} for row in self.variants],
            "seeds": list(self.seeds),
            "data": {**self.facts.to_dict(), "source": self.variants[0].recipe.data.source},
            "command": self.command,
            "version": __version__,
            "notes": list(self.notes),
        }

    def jobs(self, folder: SweepFolder) -> list[Job]:
        """All runs: the whole table with the first seed, then with the next, so that half-way every row is seen."""
        return [
            Job(
                run=f"{row.slug}/seed-{seed}",
                title=row.name,
                folder=str(folder.run(row.slug, seed).resolve()),
                spec=named(row.spec),
                recipe=row.recipe.with_changes(seed=seed),
                plan_file=str(self.plan_file),
                command=self.command,
            )
            for seed in self.seeds
            for row in self.variants
        ]


def named(spec: AnySpec) -> AnySpec:
    """A model whose mixers that are Python objects are replaced by their names, so that it can be written down."""
    from ..weights.description import named_mixers  # torch comes with it

    return named_mixers(spec)


def carry_out(
    sweep: Sweep,
    path: Path,
    hire: Callable[[], Crew],
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: SweepProgress,
    since: float | None = None,
) -> None:
    """Train what is not trained yet.

    Args:
        sweep: what.
        path: the sweep's folder.
        hire: makes the crew, once the folder is known to be free.
        resume: go on with the sweep in the folder; it may have fewer rows and seeds.
        overwrite: remove the sweep in the folder first.
        progress: told what happens.
        since: when the work on this sweep began, by ``time.monotonic``; now where left out. Its time is counted from
            there, imports and looking at the images included.

    Raises:
        RunError: the folder cannot hold this sweep, or a run cannot be trained; finished runs are kept.
        SweepInterrupted: after Ctrl-C or SIGTERM, with the states of the runs saved.
    """
    began = time.monotonic() if since is None else since
    folder = SweepFolder(path)
    folder.check(resume=resume, overwrite=overwrite)
    with locked(path, "another sweep is writing here; wait for it, or choose another folder with --out"):
        plan = sweep.to_dict()
        if resume:
            sweep, plan = _joined(sweep, plan, folder.read_plan(), path)
        jobs = sweep.jobs(folder)
        settled = folder.settled(job.run for job in jobs) if resume else set()
        waiting = [job for job in jobs if job.run not in settled]
        with _hired(hire if waiting else None) as crew:  # before anything is written: nobody may be at the address
            if overwrite:
                folder.clear()
            folder.write_plan(plan)
            for run in settled:
                folder.drop_state(run)  # a kill may have come first
            progress.begins(jobs, settled)
            if crew is not None:
                with _session(folder, crew, began):
                    _Shift(waiting, crew, folder, progress).work()


def _joined(sweep: Sweep, now: dict[str, Any], stored: dict[str, Any], path: Path) -> tuple[Sweep, dict[str, Any]]:
    """What to go on with, as a sweep and as plan.json: the rows of both, which agree where they meet, and all seeds."""
    expect_same_plan(stored, now, path)
    seeds = sorted({*stored["seeds"], *now["seeds"]})
    plan = {**now, "seeds": seeds, "command": _both(stored["command"], now["command"])}
    return replace(sweep, seeds=tuple(seeds)), plan


def _both(first: str, then: str) -> str:
    """The commands of a sweep, each once."""
    lines = dict.fromkeys([*first.splitlines(), then])
    return "\n".join(line for line in lines if line)


@contextmanager
def _hired(hire: Callable[[], Crew] | None) -> Iterator[Crew | None]:
    """The crew, if there is work for one; dismissed in the end."""
    if hire is None:
        yield None
        return
    crew = hire()
    try:
        yield crew
    finally:
        crew.dismiss()


@contextmanager
def _session(folder: SweepFolder, crew: Crew, began: float) -> Iterator[None]:
    """Begin and end of one sitting in the journal; a killed one has no end."""
    folder.note("sweep started", workers=crew.size, where=crew.where)
    try:
        yield
    finally:
        with suppress(RunError):  # where the journal cannot be written any more, that has been told already
            folder.note("sweep ended", seconds=round(time.monotonic() - began, 3))


class UnfinishedError(RunError):
    """A sweep has ended without all of its results; those it has are in its folder."""


class _Shift:
    """One sitting: jobs are handed out and outcomes written down until nothing is left or it has to close early."""

    def __init__(self, jobs: Sequence[Job], crew: Crew, folder: SweepFolder, progress: SweepProgress) -> None:
        self.waiting = deque(jobs)
        self.jobs = {job.run: job for job in jobs}
        self.crew, self.folder, self.progress = crew, folder, progress
        self.attempts: Counter[str] = Counter()
        self.failures: list[Outcome] = []
        self.given_up: list[Outcome] = []
        self.closing = False

    def work(self) -> None:
        """Until the last run is settled.

        Raises:
            RunError: a run failed, or died again and again.
            SweepInterrupted: after a signal.
        """
        with Interrupts() as interrupts:
            while self.crew.busy or (self.waiting and not self.closing):
                if interrupts.received:
                    self._close()
                self._hand_out()
                for outcome in self.crew.outcomes(BREATH):
                    self._settle(outcome)
                self.progress.look(self.crew.busy)
        if self.failures:
            raise UnfinishedError(f"{_told(self.failures[0])}. Finished runs are kept; mend it and go on with --resume")
        if interrupts.received:
            raise SweepInterrupted(interrupts.received)
        if self.given_up:
            died = any(outcome.event == "died" for outcome in self.given_up)
            help = "Fewer --workers need less memory at a time" if died else "Mend what was raised"
            raise UnfinishedError(
                f"{'; '.join(_told(outcome) for outcome in self.given_up)}. All other runs are finished and kept. "
                f"{help}; --resume tries again"
            )

    def _hand_out(self) -> None:
        while self.waiting and not self.closing and len(self.crew.busy) < self.crew.size:
            job = self.waiting.popleft()
            self.attempts[job.run] += 1
            self.folder.note("started", run=job.run, attempt=self.attempts[job.run])
            self.crew.begin(job)

    def _settle(self, outcome: Outcome) -> None:
        told = {"reason": outcome.reason} if outcome.reason else {}
        self.folder.note(outcome.event, run=outcome.run, seconds=round(outcome.seconds, 3), **told)
        self.progress.settled(outcome)
        if outcome.event in SETTLED:
            self.folder.drop_state(outcome.run)  # now that the journal has it, and not before
        if outcome.event == "failed":
            self.failures.append(outcome)
            self._close()
        elif outcome.event == "crashed":
            self.given_up.append(outcome)
        elif outcome.event in ("died", "stopped") and not self.closing:
            if self.attempts[outcome.run] < ATTEMPTS:
                self.waiting.appendleft(self.jobs[outcome.run])  # it goes on from its last saved state
            else:
                self.given_up.append(outcome)

    def _close(self) -> None:
        """Nothing more is begun, and whoever is at work saves and stops."""
        if not self.closing:
            self.closing = True
            self.crew.stop()


def _told(outcome: Outcome) -> str:
    often = f", begun {ATTEMPTS} times and given up" if outcome.event == "died" else ""
    return f"{outcome.run}: {outcome.reason}".rstrip(".") + often
