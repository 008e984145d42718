"""Opening the data of a run or of somebody else: with a bar, with what was left out, with classes that fit a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..errors import DataError, InputError
from ..inference.loaded import LoadedModel, imagenet_classes
from ..recipe import DataConfig
from ..tasks.task import Task
from .config import RunConfig, run_of
from .folder import class_difference


def open_data(task: Task, config: DataConfig, console: Console) -> Any:
    """Open a dataset with a bar while its files are checked, and print what was left out."""
    with progress_bars(console) as show:
        splits = task.open(config, show)
    if splits.skipped:
        console.print(f"{len(splits.skipped)} files left out:", style="yellow", highlight=False)
        for bad in splits.skipped[:5]:
            console.print(f"  {bad.path}: {bad.reason}", markup=False, highlight=False)
    return splits


@contextmanager
def progress_bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A function that is called with what is being done, how many are done and of how many; it shows bars."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bars: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done, total=total)

        yield show


def data_of_run(source: str | Path | None) -> DataConfig | None:
    """The data of the run that weights belong to; None where they are no run's or its config.json is of no use."""
    folder = run_of(source)
    try:
        return None if folder is None else RunConfig.read(folder).recipe.data
    except InputError:
        return None


def is_own_data(data: DataConfig, source: str | Path | None) -> bool:
    """Whether weights were trained on this data: no for published ones; a file that does not say counts as yes, so that
    no model is scored on what it was trained on."""
    if source is None:
        return False
    own = data_of_run(source)
    if own is None or own.source == data.source:
        return True
    return Path(own.source).expanduser().resolve() == Path(data.source).expanduser().resolve()


def expect_classes(loaded: LoadedModel, classes: tuple[str, ...]) -> None:
    """Refuse data whose classes are not the model's, in its order; by their number where the weights have no names."""
    if loaded.classes is not None and loaded.classes != classes:
        raise DataError(f"{loaded.origin}: {class_difference(loaded.classes, classes)}")
    if loaded.model.num_classes != len(classes):
        usual = " (ImageNet's)" if imagenet_classes(loaded.model.num_classes) else ""
        raise DataError(
            f"{loaded.origin}: the model has {loaded.model.num_classes} classes{usual}, the dataset has "
            f"{len(classes)}. Pass the data it was trained on, or train it on yours first"
        )
