"""A sweep's folder as data: plan.json, journal.jsonl and the run folders in, records out.

A run that is not there yet, or not finished, is missing and no fault; a file that cannot be read is a ``RunError`` that
names it. Accuracies are top-1 in percent, S is the number of seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...errors import RunError
from ...render.numbers import known
from ...run.report.files import RunFiles, read_run

PLAN = "plan.json"
JOURNAL = "journal.jsonl"
FORMAT = 1
"""The layout of plan.json that is read here."""


@dataclass(frozen=True)
class SweepVariant:
    """A row of the plan: the base or a change of it."""

    name: str
    slug: str
    """Its folder below ``runs``."""
    group: str
    about: str
    """What differs from the base, in a line; may be empty."""
    published: float | None
    """Top-1 in print, in percent."""
    spec: Mapping[str, Any]
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class SweepRun:
    """One variant trained with one seed."""

    variant: str
    seed: int
    key: str
    """``SLUG/seed-N``, its name in the journal."""
    files: RunFiles | None
    """Nothing where it was not begun."""
    broke_down: str | None
    """Why training could not go on, as for a loss that is not finite; None for any other run."""
    accuracy: float | None
    """Top-1 of the evaluated weights; chance for a run that broke down; None for a run that is not finished."""
    trouble: str | None = None
    """Why there is no result, where something went wrong: its process died, its code raised, its files are damaged."""

    @property
    def finished(self) -> bool:
        """Whether there is a result, good or bad."""
        return self.accuracy is not None

    @property
    def state(self) -> str:
        """``finished``, ``broke down`` or ``not finished``."""
        return "broke down" if self.broke_down is not None else "finished" if self.finished else "not finished"


@dataclass(frozen=True)
class Session:
    """One start of the sweep until its end, or until it was killed."""

    workers: int
    where: str
    seconds: float
    """Wall time; up to the last sign of life where it was killed."""


@dataclass(frozen=True)
class SweepFiles:
    """Everything the report reads of a sweep."""

    folder: Path
    plan: Mapping[str, Any]
    variants: tuple[SweepVariant, ...]
    """In the order of the plan."""
    base: str
    """The name of the variant that all others are compared with."""
    seeds: tuple[int, ...]
    runs: tuple[SweepRun, ...]
    """Every planned run, variant by variant, seed by seed."""
    journal: tuple[Mapping[str, Any], ...]

    @cached_property
    def of_variant(self) -> Mapping[str, tuple[SweepRun, ...]]:
        """The runs of each variant, in the order of the seeds."""
        return {v.name: tuple(run for run in self.runs if run.variant == v.name) for v in self.variants}

    @property
    def chance(self) -> float:
        """The accuracy of guessing, in percent."""
        return 100 / len(part(self.plan, "data")["classes"])

    @property
    def done(self) -> int:
        """How many runs have a result."""
        return sum(run.finished for run in self.runs)

    @cached_property
    def sessions(self) -> tuple[Session, ...]:
        """Each start of the sweep, in order."""
        starts = [i for i, event in enumerate(self.journal) if event["event"] == "sweep started"]
        return tuple(_session(self.journal[i:j]) for i, j in pairwise([*starts, len(self.journal)]))

    @property
    def worker_seconds(self) -> float:
        """What the workers spent on runs that came to an end."""
        ends = [event for event in self.journal if event["event"] in ("finished", "broke down")]
        return float(sum(event["seconds"] for event in ends if known(event.get("seconds"))))

    @property
    def title(self) -> str:
        """The plan's title, or its name."""
        return str(self.plan.get("title") or self.plan.get("name") or self.folder.resolve().name)


def is_sweep(folder: Path) -> bool:
    """Whether a sweep wrote this folder."""
    return (folder / PLAN).is_file()


def read_sweep(folder: Path | str) -> SweepFiles:
    """Read a sweep's folder.

    Raises:
        RunError: there is no plan in it, or a file is damaged; the message names it.
    """
    folder = Path(folder)
    if not is_sweep(folder):
        raise RunError(f"{folder}: expected a sweep's folder, with the {PLAN} that `metaformer ablate` writes")
    plan = _plan(folder / PLAN)
    variants = tuple(_variant(entry, folder / PLAN) for entry in plan["variants"])
    _check_names(variants, plan["base"], folder / PLAN)
    seeds = tuple(int(seed) for seed in plan["seeds"])
    journal = tuple(_events(folder / JOURNAL))
    broken, troubles = _last_words(journal, "broke down"), _last_words(journal, "died", "crashed", "failed")
    chance = 100 / len(plan["data"]["classes"])
    runs = tuple(_run(folder, variant, seed, broken, troubles, chance) for variant in variants for seed in seeds)
    return SweepFiles(folder, plan, variants, plan["base"], seeds, runs, journal)


def _plan(path: Path) -> dict[str, Any]:
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise RunError(f"{path}: not valid JSON ({error}); the file is damaged") from None
    if not isinstance(plan, dict):
        raise RunError(f"{path}: expected a mapping, got {type(plan).__name__}")
    if plan.get("format") != FORMAT:
        raise RunError(f"{path}: expected format {FORMAT}, got {plan.get('format')!r}; a newer metaformer wrote it")
    expected = {"variants": list, "seeds": list, "base": str, "data": dict}
    wrong = [name for name, kind in expected.items() if not isinstance(plan.get(name), kind) or not plan[name]]
    if not wrong and not isinstance(plan["data"].get("classes"), list):
        wrong = ["data.classes"]
    if wrong or not plan["data"]["classes"]:
        raise RunError(f"{path}: {', '.join(wrong or ['data.classes'])} missing or empty; the file is damaged")
    return plan


def _variant(entry: Any, path: Path) -> SweepVariant:
    try:
        published = entry.get("published")
        return SweepVariant(
            name=str(entry["name"]),
            slug=str(entry["slug"]),
            group=str(entry.get("group") or ""),
            about=str(entry.get("about") or ""),
            published=float(published) if known(published) else None,
            spec=part(entry, "spec"),
            recipe=part(entry, "recipe"),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise RunError(f"{path}: a variant without {error}; the file is damaged") from None


def _check_names(variants: tuple[SweepVariant, ...], base: str, path: Path) -> None:
    names = [variant.name for variant in variants]
    if base not in names:
        raise RunError(f"{path}: the base {base!r} is none of the variants {', '.join(names)}; the file is damaged")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RunError(f"{path}: {', '.join(twice)} stands in the plan more than once; the file is damaged")


def _events(path: Path) -> Iterator[Mapping[str, Any]]:
    """The journal's lines. One that is cut, by a kill while it was written, is left out; what follows it is not."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if not isinstance(event, dict) or "event" not in event or not known(event.get("time")):
            raise RunError(f"{path}, line {number}: expected an event with its time; the file is damaged")
        yield event


def _last_words(journal: tuple[Mapping[str, Any], ...], *kinds: str) -> dict[str, str]:
    """Reason by run, of those whose last event is one of ``kinds``."""
    last = {str(event["run"]): event for event in journal if event.get("run")}
    return {run: str(e.get("reason") or "no reason told") for run, e in last.items() if e["event"] in kinds}


def _run(
    folder: Path,
    variant: SweepVariant,
    seed: int,
    broken: Mapping[str, str],
    troubles: Mapping[str, str],
    chance: float,
) -> SweepRun:
    key = f"{variant.slug}/seed-{seed}"
    place = folder / "runs" / key
    try:
        files = read_run(place) if place.is_dir() else None
        accuracy = chance if key in broken else _accuracy(files)
    except RunError as error:
        return SweepRun(
            variant.name, seed, key, None, None, None, f"{error}; `metaformer ablate --resume` trains it again"
        )
    lost = troubles.get(key) if accuracy is None else None
    return SweepRun(variant.name, seed, key, files, broken.get(key), accuracy, lost)


def _accuracy(files: RunFiles | None) -> float | None:
    if files is None or files.evaluation is None:
        return None
    top1 = files.evaluation.metrics.get("top1")
    if not known(top1):
        raise RunError(f"{files.folder / 'evaluation.json'}: expected figures with a top1; evaluate the run again")
    return 100 * top1


def _session(events: tuple[Mapping[str, Any], ...]) -> Session:
    first, end = events[0], next((e for e in events if e["event"] == "sweep ended" and known(e.get("seconds"))), None)
    seconds = end["seconds"] if end else events[-1]["time"] - first["time"]
    workers = first.get("workers")
    return Session(int(workers) if known(workers) else 1, str(first.get("where") or ""), float(seconds))


def part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a JSON object, empty where it is not there."""
    section = content.get(name)
    return section if isinstance(section, Mapping) else {}
