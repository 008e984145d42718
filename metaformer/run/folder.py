"""A run's folder before, during and after training: what may be removed, and whether a run can be resumed in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..recipe import Recipe
from .config import CONFIG, RunConfig
from .output_folder import OutputFolder, listed

EVALUATION = "evaluation.json"

RUN_FOLDER = OutputFolder(
    kind="run",
    mark=CONFIG,
    written=(
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
    ),
)
"""Everything a run writes; a run that starts over removes these files and nothing else."""

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
"""Fields that decide where and how conveniently a run is resumed, not what it comes to. Data that was moved is checked
by its classes and its size."""


def recipe_to_resume(folder: Path, given: Recipe | None) -> Recipe:
    """The recipe to resume with: the folder's, with what may change taken from ``given``.

    Raises:
        RunError: a field of ``given`` that decides the result differs from the run's.
    """
    stored = RunConfig.read(folder).recipe
    if given is None:
        return stored
    for path, before, now in differences(stored.to_dict(), given.to_dict()):
        if path not in FREE_ON_RESUME:
            raise RunError(
                f"{path}: the run in {folder} was started with {before!r}, got {now!r}. A resumed run keeps its "
                "recipe: leave this out, or start another run in a new folder with --out"
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
    """Refuse to resume on other classes, in another order, or on another number of samples.

    Raises:
        RunError: naming the first difference.
    """
    config = RunConfig.read(folder)
    if config.classes != classes:
        raise RunError(
            f"{folder}: {class_difference(config.classes, classes)}. Resume with the data it was started with"
        )
    counts = {"training": (config.data.train, train), "validation": (config.data.val, val)}
    for part, (before, now) in counts.items():
        if before != now:
            raise RunError(
                f"{folder}: the run was started with {before} {part} images, now there are {now}. "
                "Resume with the data it was started with, or start another run in a new folder with --out"
            )


def class_difference(stored: tuple[str, ...], now: tuple[str, ...]) -> str:
    """What differs between the classes of a checkpoint and those of the data, in words."""
    if len(stored) != len(now):
        return f"the model has {len(stored)} classes, the dataset has {len(now)}"
    if set(stored) == set(now):
        i = next(i for i, (a, b) in enumerate(zip(stored, now, strict=True)) if a != b)
        return f"the classes are in another order: number {i} is {stored[i]!r} in the model, {now[i]!r} in the dataset"
    return (
        f"the classes differ: {listed(sorted(set(stored) - set(now)))} only in the model, "
        f"{listed(sorted(set(now) - set(stored)))} only in the dataset"
    )
