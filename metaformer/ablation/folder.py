"""A sweep's folder: its plan, its journal and its runs, read and written here and nowhere else.

plan.json              what is trained: variants with whole models and recipes, seeds, classes and image counts
journal.jsonl          what happened, one event per line, on the disk before the sweep continues
runs/VARIANT/seed-N/   ordinary run folders
report.html, table.csv, table.json, table.md, *.png
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, Self

from ..errors import InputError, RunError
from ..files import read_json, write_json
from ..metrics import MetricDef
from ..records import Record
from ..render.numbers import known
from ..run.config import RunConfig
from ..run.evaluation_file import read_evaluation
from ..run.folder import FREE_ON_RESUME, RUN_FOLDER, class_difference
from ..run.output_folder import OutputFolder
from ..tasks.task import TASKS, task_named
from ..version import __version__
from .lock import LOCK
from .plan import DataFacts, Variant

PLAN, JOURNAL, RUNS = "plan.json", "journal.jsonl", "runs"
FORMAT = 2
"""The layout of plan.json that is written. Format 1, of version 0.1.0, has no metric and is converted when read."""
SETTLED = ("finished", "diverged")
"""Events after which a run is not started again."""
SWEEP_FOLDER = OutputFolder(
    kind="sweep", mark=PLAN, written=(PLAN, JOURNAL, RUNS, "report.html", "table.*", "*.png", "comparison")
)
"""Everything a sweep writes; overwriting one removes these files, the runs of its plan, and nothing else."""
_CHECKPOINTS = "checkpoint*.safetensors"

Event = Literal[
    "sweep started", "started", "finished", "diverged", "stopped", "failed", "crashed", "died", "sweep ended"
]


@dataclass(frozen=True, kw_only=True)
class SweepPlan(Record):
    """plan.json: everything that a sweep trains."""

    error: ClassVar[type[InputError]] = RunError

    format: Literal[2] = 2
    name: str
    """The plan's name."""
    title: str
    question: str
    source: str
    """Where the published numbers are from."""
    base: str
    """The name of the variant that all others are compared with."""
    variants: tuple[Variant, ...]
    """In the order of the table; mixers that are Python objects are kept by name."""
    seeds: tuple[int, ...]
    data: DataFacts
    metric: MetricDef
    """The primary metric, by which the variants are compared."""
    chance: float | None
    """Its value when guessing, with which runs that diverged count; None where it has no such value."""
    command: str = ""
    """The command lines that the sweep was started and resumed with, one per line."""
    version: str = __version__
    """Of the library that wrote it."""
    notes: tuple[str, ...] = ()
    """Warnings about the plan, in sentences."""

    def check(self) -> None:
        """There is something to train, and every variant can be told from the others."""
        self.expect(bool(self.variants), "variants", "at least 1", ())
        self.expect(bool(self.seeds), "seeds", "at least 1", ())
        names = [variant.name for variant in self.variants]
        for name, count in Counter(names).items():
            self.expect(count == 1, "variants", "every name once", name)
        self.expect(self.base in names, "base", f"one of {', '.join(names)}", self.base)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: str = "") -> Self:
        """The plan of a file; that of version 0.1.0 is converted, whose sweeps were all of classifiers."""
        if isinstance(data, Mapping) and data.get("format") == 1:
            task, facts = task_named(next(iter(TASKS))), data.get("data")
            classes = facts.get("classes") if isinstance(facts, Mapping) else None
            added = {"metric": task.primary().to_dict(), "chance": task.chance(classes) if classes else None}
            data = {**data, **added, "format": FORMAT}
        return super().from_dict(data, path)

    @property
    def runs(self) -> list[str]:
        """``VARIANT/seed-N`` of every run: all variants with the first seed, then with the next one.

        In this order a sweep that is stopped half-way has a result for every variant.
        """
        return [f"{variant.slug}/seed-{seed}" for seed in self.seeds for variant in self.variants]


@dataclass(frozen=True, kw_only=True)
class JournalEvent(Record):
    """A line of journal.jsonl."""

    error: ClassVar[type[InputError]] = RunError

    time: float
    """In seconds, as ``time.time`` counts them."""
    event: Event
    run: str | None = None
    """``VARIANT/seed-N``; None for the events of the sweep as a whole."""
    attempt: int | None = None
    """How many times the run was started, this time included."""
    workers: int | None = None
    """Runs at a time."""
    where: str | None = None
    """What the runs were trained on: ``this machine`` or ``Ray``."""
    seconds: float | None = None
    """Wall time of the run, or of the session that ends."""
    reason: str | None = None
    """Why the run did not finish."""

    def to_dict(self) -> dict[str, Any]:
        """The fields that this event has."""
        return {name: value for name, value in super().to_dict().items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: str = "") -> Self:
        """The event of a line; version 0.1.0 wrote "broke down" for "diverged"."""
        if isinstance(data, Mapping) and data.get("event") == "broke down":
            data = {**data, "event": "diverged"}
        return super().from_dict(data, path)


class SweepFolder:
    """The files of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, name: str) -> Path:
        """The folder of the run ``VARIANT/seed-N``."""
        return self.path / RUNS / name

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that cannot hold this sweep; no file is touched.

        Raises:
            RunError: a sweep is there and neither ``resume`` nor ``overwrite`` was given; no sweep to resume; files
                that no sweep writes; a sweep without its plan.
        """
        SWEEP_FOLDER.check(self.path, resume=resume, overwrite=overwrite)
        if overwrite and not is_sweep(self.path) and (self.path / RUNS).exists():
            # The plan lists the runs to remove. Left in place, they would count as this sweep's.
            raise RunError(
                f"{self.path}: its {PLAN} is missing, so its runs are not known and cannot be overwritten. Remove the "
                "folder yourself, or choose another with --out"
            )

    def clear(self) -> None:
        """Remove the sweep that is here, and only what sweeps and runs write.

        The journal goes first, so that no half-removed run counts as finished. The plan goes last, because it lists
        what there is to remove: after a kill in between the folder is still a sweep's.
        """
        if not is_sweep(self.path):
            return
        (self.path / JOURNAL).unlink(missing_ok=True)
        for run in self.read_plan().runs:
            folder = self.run(run)
            if folder.is_dir():
                RUN_FOLDER.clear(folder)
                _remove_empty(folder, self.path)
        for path in SWEEP_FOLDER.files(self.path):
            if path.name != PLAN:
                path.unlink()
        (self.path / PLAN).unlink()

    def read_plan(self) -> SweepPlan:
        """plan.json.

        Raises:
            RunError: it is missing, damaged, or of a newer version.
        """
        path = self.path / PLAN
        data = read_json(path)
        if isinstance(data.get("format"), int) and data["format"] > FORMAT:
            raise RunError(
                f"{path}: expected format {FORMAT} or older, got {data['format']}. A newer metaformer wrote it; "
                "update this one"
            )
        try:
            return SweepPlan.from_dict(data)
        except InputError as error:
            raise RunError(f"{path}: {error}; the file is damaged") from None

    def write_plan(self, plan: SweepPlan) -> None:
        """Write plan.json, all or nothing."""
        # Whole specs of many variants: an indent of 2 would make half of the file spaces.
        write_json(self.path / PLAN, plan.to_dict(), indent=1)

    def log(
        self,
        event: Event,
        *,
        run: str | None = None,
        attempt: int | None = None,
        workers: int | None = None,
        where: str | None = None,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> None:
        """Add a line to the journal and wait until it is on the disk.

        Raises:
            RunError: the disk is full or the folder is gone.
        """
        line = JournalEvent(
            time=round(time.time(), 3),
            event=event,
            run=run,
            attempt=attempt,
            workers=workers,
            where=where,
            seconds=seconds if seconds is None else round(seconds, 3),
            reason=reason or None,
        )
        path = self.path / JOURNAL
        try:
            with path.open("ab+") as file:  # + because the end of the file is read first
                _drop_truncated_line(file)
                file.write(f"{line.to_json(indent=None)}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                f"{path} cannot be written: {error.strerror}. Finished runs are kept; continue with --resume"
            ) from None

    def read_journal(self) -> list[JournalEvent]:
        """The events in order. A line that a kill truncated while it was written is left out.

        Raises:
            RunError: a line is no event; the message has its number.
        """
        path = self.path / JOURNAL
        if not path.is_file():
            return []
        events = []
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            try:
                data = json.loads(line)
            except ValueError:
                continue  # truncated; ``log`` removes it, but a journal copied while it grew may keep it
            try:
                events.append(JournalEvent.from_dict(data))
            except InputError as error:
                raise RunError(
                    f"{path}, line {number}: {error}; the file is damaged. Remove the line: finished runs are found "
                    "without it"
                ) from None
        return events

    def settled(self, plan: SweepPlan) -> set[str]:
        """The plan's runs that have a result, as ``VARIANT/seed-N``.

        The run folders decide and not the journal, because either can be lost. Only that a run diverged is in the
        journal alone.
        """
        # A diverged run has no evaluation, so its folder looks like that of a run that is not finished.
        diverged = {event.run for event in self.read_journal() if event.event == "diverged"}
        return {run for run in plan.runs if self._has_result(run, plan.metric.name, run in diverged)}

    def _has_result(self, run: str, metric: str, diverged: bool) -> bool:
        """Whether the files that a resumed sweep and its report need are there and readable."""
        try:
            config = RunConfig.read(self.run(run))
            evaluation = None if diverged else read_evaluation(self.run(run), config.task)
        except RunError:
            return False
        return diverged or (evaluation is not None and known(evaluation.metrics.get(metric)))

    def drop_checkpoints(self, run: str) -> None:
        """Remove a settled run's checkpoints: nothing continues from them, and they are its largest files."""
        for path in self.run(run).glob(_CHECKPOINTS):
            path.unlink(missing_ok=True)


def is_sweep(folder: Path) -> bool:
    """Whether a sweep wrote this folder."""
    return (folder / PLAN).is_file()


def sweep_of(run: Path) -> Path:
    """The folder of the sweep that a run's folder belongs to."""
    return run.parents[2]


def _drop_truncated_line(file: IO[bytes]) -> None:
    """Remove what a kill left of the last line, so that only the last line can ever be incomplete."""
    file.seek(0)
    end = file.read().rfind(b"\n") + 1
    file.truncate(end)
    file.seek(end)


def _remove_empty(folder: Path, stop: Path) -> None:
    """Remove a folder and those above it up to ``stop``, as long as they hold a lock file at most."""
    while folder != stop and not any(entry for entry in folder.iterdir() if entry.name != LOCK):
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
        folder = folder.parent


def expect_same_plan(stored: SweepPlan, now: SweepPlan, folder: Path) -> None:
    """Refuse to resume a sweep whose variants mean something else now; new variants and new seeds are welcome.

    Raises:
        RunError: naming the first difference.
    """
    _expect_same_images(stored.data, now.data, folder)
    advice = "A resumed sweep keeps its variants: leave the plan as it was, or choose another folder with --out"
    current = {variant.slug: variant for variant in now.variants}
    for before in stored.variants:
        if before.slug not in current:
            raise RunError(f"{folder}: the sweep was started with {before.name!r}, which the plan lacks now. {advice}")
        old, new = before.to_dict(), current[before.slug].to_dict()
        for part in ("spec", "recipe"):
            for field, was, is_now in _differences(old[part], new[part]):
                if field not in FREE_ON_RESUME:
                    raise RunError(
                        f"{folder}: {before.name!r} was started with {part}.{field} = {was!r}, now it is {is_now!r}. "
                        f"{advice}"
                    )


def _expect_same_images(before: DataFacts, now: DataFacts, folder: Path) -> None:
    difference = ""
    if before.classes != now.classes:
        difference = class_difference(before.classes, now.classes)
    elif before.train != now.train:
        difference = f"it was started with {before.train} training images, now there are {now.train}"
    elif before.val != now.val:
        difference = f"it was started with {before.val} validation images, now there are {now.val}"
    if difference:
        raise RunError(f"{folder}: {difference}. Resume with the images it was started with, or choose another --out")


def _differences(before: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path such as ``stages[2].norm.kind``, before, now) wherever two plain trees differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _differences(old, new, f"{path}[{i}]")
    elif before != now:
        yield path, before, now
