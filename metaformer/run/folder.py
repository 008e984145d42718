"""A run's folder before, during and after training: whose it is, what may be removed, what its config.json says.

In: a folder and what a person wants of it. Out: a folder that holds one run, or a message that says why not. Files
that no run writes are never touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..recipe import Recipe

CONFIG = "config.json"
EVALUATION = "evaluation.json"

WRITTEN = (
    CONFIG,
    EVALUATION,
    "metrics.csv",
    "events.out.tfevents.*",
    "checkpoint.safetensors",
    "checkpoint.previous.safetensors",
    "best.safetensors",
    "last.safetensors",
    "curves.png",
    "confusion.png",
    "predictions.png",
    "precision_recall.png",
    "report.html",
)
"""Names of everything a run writes; a run that is started over removes these and nothing else."""

FREE_ON_RESUME = frozenset(
    {
        "data.source",
        "data.root",
        "data.download",
        "data.workers",
        "data.verify",
        "machine.device",
        "machine.save_minutes",
        "machine.save_steps",
        "machine.threads",
        "machine.grad_checkpointing",
        "machine.lean_blocks",
    }
)
"""Fields that say where and how conveniently a run goes on, not what comes out of it. Moved images are checked by
their classes and their number."""


def check(folder: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    """Refuse a folder that cannot hold this run; nothing in it is touched yet.

    Raises:
        RunError: a run is there already and neither ``resume`` nor ``overwrite`` was asked for; nothing to resume;
            files in the folder that no run writes.
    """
    if resume and overwrite:
        raise RunError("--resume goes on with the run in the folder, --overwrite removes it; give one of them")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; expected a folder for the run. Choose another with --out")
    found = sorted(e for e in folder.iterdir() if not e.name.startswith(".")) if folder.is_dir() else []
    if resume:
        _expect_run(folder, found)
        return
    foreign = [entry.name for entry in found if entry.is_dir() or not is_written(entry.name)]
    if foreign and (overwrite or not (folder / CONFIG).is_file()):
        raise RunError(
            f"{folder} holds what no run writes: {_named(foreign)}. Nothing was touched; "
            "choose another folder with --out, or move these away"
        )
    if found and not overwrite:
        raise RunError(
            f"{folder} holds a run already. Go on with it: --resume. Remove it and start over: --overwrite. "
            "Or keep it and choose another folder with --out"
        )


def start_over(folder: Path) -> None:
    """Remove what an earlier run wrote, and only that."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in list(_files(folder)):
            path.unlink()
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}. Choose another folder with --out") from None


def _expect_run(folder: Path, found: list[Path]) -> None:
    if (folder / CONFIG).is_file():
        return
    there = f"it has {_named([entry.name for entry in found])}" if found else "there is nothing"
    if found and all(is_written(entry.name) for entry in found):
        there = "its config.json is missing"
    raise RunError(f"{folder}: no run to resume, {there}. Name the run's folder with --out, or leave out --resume")


def is_written(name: str) -> bool:
    """Whether a run writes a file of this name (parts of a file that was being written included)."""
    name = name.removeprefix(".").removesuffix(".partial") if name.endswith(".partial") else name
    return any(fnmatchcase(name, pattern) for pattern in WRITTEN)


def _files(folder: Path) -> Iterator[Path]:
    return (entry for entry in folder.iterdir() if entry.is_file() and is_written(entry.name))


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.json.

    Raises:
        RunError: it is not there or not readable.
    """
    path = folder / CONFIG
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); expected a run's folder") from None
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error})") from None
    if not isinstance(data, dict) or not isinstance(data.get("recipe"), dict):
        raise RunError(f"{path}: expected what a run writes, with a recipe in it")
    return data


def stored_recipe(folder: Path) -> Recipe:
    """The recipe a run was begun with."""
    recipe = read_config(folder)["recipe"]
    if isinstance(recipe.get("data"), dict):
        recipe["data"].setdefault("memory", "never")  # runs from before there was a choice read image by image
    return Recipe.from_dict(recipe, "recipe")


def resumed(folder: Path, given: Recipe | None) -> Recipe:
    """The recipe to go on with: the folder's, with what may change taken from ``given``.

    Raises:
        RunError: a field of ``given`` that decides the result differs from the run's.
    """
    stored = stored_recipe(folder)
    if given is None:
        return stored
    for path, before, now in differences(stored.to_dict(), given.to_dict()):
        if path not in FREE_ON_RESUME:
            raise RunError(
                f"{path}: the run in {folder} was begun with {before!r}, got {now!r}. A resumed run keeps its recipe: "
                "leave this out, or start another run in a new folder with --out"
            )
    return given


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted field, before, now) wherever two plain trees of the same fields differ."""
    for key, value in before.items():
        if isinstance(value, Mapping) and isinstance(now[key], Mapping):
            yield from differences(value, now[key], f"{prefix}{key}.")
        elif value != now[key]:
            yield f"{prefix}{key}", value, now[key]


def expect_same_data(folder: Path, classes: tuple[str, ...], train: int, val: int) -> None:
    """Refuse to resume on other classes, in another order, or on another number of images.

    Raises:
        RunError: naming the first difference.
    """
    config = read_config(folder)
    stored = tuple(config.get("classes") or ())
    if stored != classes:
        raise RunError(f"{folder}: {class_difference(stored, classes)}. Resume with the images it was begun with")
    counts = {"training": (config["data"]["train"], train), "validation": (config["data"]["val"], val)}
    for part, (before, now) in counts.items():
        if before != now:
            raise RunError(
                f"{folder}: the run was begun with {before} {part} images, now there are {now}. "
                "Resume with the images it was begun with, or start another run in a new folder with --out"
            )


def class_difference(stored: tuple[str, ...], now: tuple[str, ...]) -> str:
    """What differs between the classes of a checkpoint and those of the data, in words."""
    if len(stored) != len(now):
        return f"the weights know {len(stored)} classes, the data has {len(now)}"
    if set(stored) == set(now):
        i = next(i for i, (a, b) in enumerate(zip(stored, now, strict=True)) if a != b)
        return f"the classes stand in another order: number {i} is {stored[i]!r} in the weights, {now[i]!r} in the data"
    return (
        f"the classes differ: {_named(sorted(set(stored) - set(now)))} only in the weights, "
        f"{_named(sorted(set(now) - set(stored)))} only in the data"
    )
