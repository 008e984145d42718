"""What a run is about, as seen from ``run.py``: which images, which model, which loaders, how the outcome is judged.

A task is a module of this folder; ``work_of`` is the one table of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from ..data.sets import Progress
from ..recipe import DataConfig, Recipe
from ..training.evaluation import Batches
from ..types import Batch, Task


@dataclass(frozen=True, kw_only=True)
class Equipment:
    """What a trainer is given beside model and recipe."""

    task: Task
    train_loader: Batches
    val_loader: Batches
    mixing: Callable[[Batch], Batch] | None = None


class Work(Protocol):
    """One kind of run."""

    def open(self, choice: DataConfig, progress: Progress | None = None) -> Any:
        """A data set with ``train``, ``val``, ``classes``, ``skipped`` and ``held_out_here``; raises ``DataError``."""

    def fitted_model(self, recipe: Recipe, sets: Any, spec: Any = None) -> tuple[Any, list[str]]:
        """The recipe's model for this data set, and what was decided for it, in sentences."""

    def equipment(self, recipe: Recipe, sets: Any, model: Any, progress: Progress | None = None) -> Equipment:
        """Loaders of this process's share, and the task."""

    def score(
        self,
        model: Any,
        images: Any,
        classes: Sequence[str],
        *,
        batch_size: int,
        workers: int = 0,
        memory: bool = False,
        device: Any = "cpu",
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        each_batch: Callable[[], None] = lambda: None,
    ) -> Any:
        """What a model comes to on one part of a data set: a record with ``figures`` and ``write(path, **more)``.

        ``memory``: the images are kept decoded in this process already. ``each_batch`` is called after each batch.
        """


_WORKS = {
    "classification": ("classification.task", "ClassificationWork"),
    "detection": ("dense.task", "DetectionWork"),
    "segmentation": ("dense.task", "SegmentationWork"),
}


def work_of(task: str) -> Work:
    """The kind of run for a recipe's task, its room imported now."""
    module, name = _WORKS[task]
    return getattr(import_module(f"{__package__}.{module}"), name)()
