"""Open a dataset with a progress bar, print its unreadable files, and check its classes against a model's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from ..data.dataset import Splits
from ..errors import DataError, InputError
from ..inference.loaded import LoadedModel, imagenet_classes, is_published
from ..recipe import DataConfig
from ..tasks.task import Task
from .config import RunConfig, run_of
from .folder import class_difference


def open_data(task: Task, config: DataConfig, console: Console) -> Splits[Any]:
    """Open a dataset, with a progress bar while its files are checked, and print the files that were left out."""
    with progress_bars(console) as show:
        splits = task.open(config, show)
    if splits.skipped:
        console.print(f"{len(splits.skipped)} files left out:", style="yellow", highlight=False)
        for bad in splits.skipped[:5]:
            # no markup, because a path may have brackets
            console.print(f"  {bad.path}: {bad.reason}", markup=False, highlight=False)
    return splits


@contextmanager
def progress_bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows progress bars; it takes a description, the number done and the total."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bars: dict[str, TaskID] = {}

        def show(description: str, done: int, total: int) -> None:
            if description not in bars:
                bars[description] = progress.add_task(description, total=total)
            progress.update(bars[description], completed=done, total=total)

        yield show


def data_of_run(source: str | Path | None) -> DataConfig | None:
    """The data of the run that weights belong to; None for other weights, or where its config.json is unreadable."""
    folder = run_of(source)
    try:
        return None if folder is None else RunConfig.read(folder).recipe.data
    except InputError:
        return None


def is_own_data(data: DataConfig, source: str | Path | None) -> bool:
    """Whether weights were trained on this data.

    False for published weights. True for a file that does not name its data, so that no model is evaluated on its own
    training images by accident.
    """
    if source is None or is_published(source):
        return False
    trained_on = data_of_run(source)
    if trained_on is None or trained_on.source == data.source:  # by name first: ``digits`` is no path
        return True
    return Path(trained_on.source).expanduser().resolve() == Path(data.source).expanduser().resolve()


def expect_classes(loaded: LoadedModel, classes: tuple[str, ...]) -> None:
    """Raise ``DataError`` unless the dataset has the model's classes in the same order, or as many where the weights
    have no class names."""
    if loaded.classes is not None and loaded.classes != classes:
        raise DataError(f"{loaded.origin}: {class_difference(loaded.classes, classes)}")
    if loaded.model.num_classes != len(classes):
        kind = " (ImageNet's)" if imagenet_classes(loaded.model.num_classes) else ""
        raise DataError(
            f"{loaded.origin}: the model has {loaded.model.num_classes} classes{kind}, the dataset has "
            f"{len(classes)}. Pass the data it was trained on, or train it on yours first"
        )
