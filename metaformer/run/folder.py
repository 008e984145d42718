"""A run's folder: the files in it, and the checks before a run is resumed there."""

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
"""Every file that a run writes; ``--overwrite`` removes these files only."""

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
"""Fields that may change when a run is resumed, because they do not change its results. A data source that was moved is
checked by its classes and its size."""


def recipe_to_resume(folder: Path, given: Recipe | None) -> Recipe:
    """The recipe to resume with: ``given``, or the run's own where it is None.

    Raises:
        RunError: a field of ``given`` that changes the results differs from the run's.
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
    """(dotted field, before, now) wherever two nested mappings with the same keys differ."""
    for key, value in before.items():
        if isinstance(value, Mapping) and isinstance(now[key], Mapping):
            yield from differences(value, now[key], f"{prefix}{key}.")
        elif value != now[key]:
            yield f"{prefix}{key}", value, now[key]


def expect_same_data(folder: Path, classes: tuple[str, ...], train: int, val: int) -> None:
    """Check that the data has the classes and the numbers of samples that the run was started with.

    Raises:
        RunError: with the first difference.
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
    """A sentence on the difference between the classes of a model and of a dataset."""
    if len(stored) != len(now):
        return f"the model has {len(stored)} classes, the dataset has {len(now)}"
    if set(stored) == set(now):
        i = next(i for i, (a, b) in enumerate(zip(stored, now, strict=True)) if a != b)
        return f"the classes are in another order: number {i} is {stored[i]!r} in the model, {now[i]!r} in the dataset"
    return (
        f"the classes differ: {listed(sorted(set(stored) - set(now)))} only in the model, "
        f"{listed(sorted(set(now) - set(stored)))} only in the dataset"
    )
