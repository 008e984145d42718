"""A sweep: every variant of a plan with every seed, trained by an executor, its results in a folder.

In: a plan, a folder, an executor. Out: run folders and a journal. The result of a run is on the disk before anything
else happens, so a sweep that is killed at any moment can be resumed where it was.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import RunError
from ..training.interrupt import Interrupts, SweepInterrupted
from .executors import Executor
from .folder import SETTLED, SweepFolder, SweepPlan, expect_same_plan
from .job import Job, JobResult
from .lock import locked
from .progress import SweepProgress

MAX_ATTEMPTS = 3
"""How many times a run is started whose process dies."""
POLL_SECONDS = 0.5
"""Between two updates of the progress display."""


class UnfinishedError(RunError):
    """A sweep ended without all of its results; those that it has are in its folder."""


def run_sweep(
    plan: SweepPlan,
    plan_file: Path,
    path: Path,
    start_executor: Callable[[], Executor],
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: SweepProgress,
    since: float | None = None,
) -> None:
    """Train the runs of a plan that have no result yet.

    Args:
        plan: what to train.
        plan_file: the Python file that defines mixers that are Python objects.
        path: the sweep's folder.
        start_executor: called once the folder is known to be free and there is a run to train.
        resume: continue the sweep in the folder; it may have fewer variants and seeds.
        overwrite: remove the sweep in the folder first.
        progress: shows what happens.
        since: when the work on this sweep began, by ``time.monotonic``; now if left out. Its time is counted from
            there, imports and opening the images included.

    Raises:
        RunError: the folder cannot hold this sweep, or a run cannot be trained; finished runs are kept.
        SweepInterrupted: after Ctrl-C or SIGTERM, with the states of the runs saved.
    """
    began = time.monotonic() if since is None else since
    folder = SweepFolder(path)
    folder.check(resume=resume, overwrite=overwrite)
    with locked(path, "another sweep is writing here; wait for it, or choose another folder with --out"):
        to_write = plan
        if resume:
            stored = folder.read_plan()
            expect_same_plan(stored, plan, path)
            plan = plan.with_changes(seeds=tuple(sorted({*stored.seeds, *plan.seeds})))
            commands = dict.fromkeys([*stored.command.splitlines(), plan.command])
            to_write = plan.with_changes(command="\n".join(filter(None, commands)))
        jobs = jobs_of(plan, plan_file, folder)
        settled = folder.settled(plan) if resume else set()
        waiting = [job for job in jobs if job.run not in settled]
        # The executor comes before anything is written or removed: there may be no cluster at its address.
        with _started(start_executor if waiting else None) as executor:
            if overwrite:
                folder.clear()
            folder.write_plan(to_write)
            for run in settled:
                folder.drop_checkpoints(run)  # left by a kill between the run's result and their removal
            progress.begin(jobs, settled)
            if executor is not None:
                with _session(folder, executor, began):
                    Scheduler(waiting, executor, folder, progress).run()


def jobs_of(plan: SweepPlan, plan_file: Path, folder: SweepFolder) -> list[Job]:
    """A job for every run of the plan, in the plan's order."""
    return [
        Job(
            run=(run := f"{variant.slug}/seed-{seed}"),
            title=variant.name,
            folder=str(folder.run(run).resolve()),
            spec=variant.spec,
            recipe=variant.recipe.with_changes(seed=seed),
            plan_file=str(plan_file.resolve()),
            command=plan.command,
        )
        for seed in plan.seeds
        for variant in plan.variants
    ]


@contextmanager
def _started(start_executor: Callable[[], Executor] | None) -> Iterator[Executor | None]:
    """The executor, shut down at the end; None where there is none to start."""
    executor = start_executor() if start_executor else None
    try:
        yield executor
    finally:
        if executor is not None:
            executor.shutdown()


@contextmanager
def _session(folder: SweepFolder, executor: Executor, began: float) -> Iterator[None]:
    """Log the start and the end of a session; one that is killed has no end."""
    folder.log("sweep started", workers=executor.size, where=executor.where)
    try:
        yield
    finally:
        with suppress(RunError):  # if the journal cannot be written any more, an error about it is under way already
            folder.log("sweep ended", seconds=time.monotonic() - began)


class Scheduler:
    """Submits jobs and logs their results, until none is left or the sweep has to stop early."""

    def __init__(self, jobs: Sequence[Job], executor: Executor, folder: SweepFolder, progress: SweepProgress) -> None:
        self.waiting = deque(jobs)
        self.jobs = {job.run: job for job in jobs}
        self.executor, self.folder, self.progress = executor, folder, progress
        self.attempts: Counter[str] = Counter()
        self.failed: list[JobResult] = []
        self.given_up: list[JobResult] = []
        self.stopping = False

    def run(self) -> None:
        """Work until the last run is settled.

        Raises:
            RunError: a run failed, or died again and again.
            SweepInterrupted: after a signal.
        """
        with Interrupts() as interrupts:
            while self.executor.running or (self.waiting and not self.stopping):
                if interrupts.received:
                    self._stop()
                self._submit()
                for result in self.executor.results(POLL_SECONDS):
                    self._settle(result)
                self.progress.update(self.executor.running)
        if self.failed:
            raise UnfinishedError(
                f"{_describe(self.failed[0])}. Finished runs are kept. Fix the problem and rerun with --resume"
            )
        if interrupts.received:
            raise SweepInterrupted(interrupts.received)
        if self.given_up:
            died = any(result.event == "died" for result in self.given_up)
            advice = "Fewer --workers need less memory at a time" if died else "Fix what was raised"
            raise UnfinishedError(
                f"{'; '.join(map(_describe, self.given_up))}. All other runs are finished and kept. {advice} and "
                "rerun with --resume"
            )

    def _submit(self) -> None:
        while self.waiting and not self.stopping and len(self.executor.running) < self.executor.size:
            job = self.waiting.popleft()
            self.attempts[job.run] += 1
            self.folder.log("started", run=job.run, attempt=self.attempts[job.run])
            self.executor.submit(job)

    def _settle(self, result: JobResult) -> None:
        self.folder.log(result.event, run=result.run, seconds=result.seconds, reason=result.reason)
        self.progress.end_run(result)
        if result.event in SETTLED:
            self.folder.drop_checkpoints(result.run)  # not before the journal has the result: see ``settled``
        if result.event == "failed":
            # An input that one run cannot use, such as a full disk, would fail the others as well.
            self.failed.append(result)
            self._stop()
        elif result.event == "crashed":
            self.given_up.append(result)
        elif result.event in ("died", "stopped") and not self.stopping:
            if self.attempts[result.run] < MAX_ATTEMPTS:
                self.waiting.appendleft(self.jobs[result.run])  # it continues from its last saved state
            else:
                self.given_up.append(result)

    def _stop(self) -> None:
        """Start no more runs, and let the running ones save and stop."""
        if not self.stopping:
            self.stopping = True
            self.executor.stop()


def _describe(result: JobResult) -> str:
    attempts = f", started {MAX_ATTEMPTS} times and given up" if result.event == "died" else ""
    return f"{result.run}: {result.reason}".rstrip(".") + attempts
