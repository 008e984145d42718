"""Where the rooms meet: a recipe in, a trained model and a run folder out.

``train`` opens the images, builds the model for them, hands both to the trainer, and at the end evaluates and
writes the report. What that means for a task is said in ``work/``. It prints what it decided by itself. Works alone and
under ``torchrun``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..data.loading.loader import MemoryLoader
from ..recipe import DataConfig, Recipe
from ..spec.model import AnySpec
from ..tasks.task import Work, work_of
from ..training.device import processes
from ..training.journal import Events, MetricsFile
from ..training.observer import Observer
from ..training.progress import ProgressBars
from ..training.trainer import BEST, LAST, Trainer
from ..weights.description import describe
from ..weights.safetensors_io import read_tensors
from . import folder as run_folder
from .config import described, write_config
from .folder import EVALUATION

if TYPE_CHECKING:
    from ..training.trainer import FitResult


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to."""

    folder: Path
    figures: Mapping[str, float]
    """Of the evaluation in ``evaluation.json``."""
    last: Mapping[str, float]
    """Everything measured in the last epoch, as in ``metrics.csv``."""
    figure: str
    """The figure by which weights are the best, such as ``top1``."""
    best: float
    """The best of any epoch, a share."""
    best_epoch: int
    """The epoch it came from; the first is 1."""
    seconds: float
    """From the first update of this call to its last evaluation; 0 when the run was finished already."""
    parameters: int
    macs: int
    report: Path | None
    """The page, where it was written."""
    was_finished: bool
    """Whether there was nothing left to train."""


def train(
    recipe: Recipe | None,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    spec: AnySpec | None = None,
    sets: Any = None,
    judged: Literal["best", "last"] = "best",
    title: str = "",
    page: bool = True,
    console: Console | None = None,
) -> RunResult | None:
    """Train a recipe in a folder.

    Args:
        recipe: the run; None takes the folder's own, to resume it.
        folder: where everything is written; new, empty, or a run's with ``resume`` or ``overwrite``.
        resume: go on from the folder's newest state, exactly.
        overwrite: remove the run that is in the folder once this one is ready to start.
        command: the command line, kept in config.json.
        spec: a model of your own in place of ``recipe.model.name``.
        sets: images that are open already; opened from ``recipe.data`` when left out.
        judged: which weights evaluation.json and the report show: those of the best epoch or of the last.
        title: a word in front of the progress bars.
        page: whether the report is written at the end; ``metaformer report`` writes it later too.
        console: where to print; standard output when left out.

    Returns:
        The result on the main process, nothing on the others of a ``torchrun``.

    Raises:
        InputError: anything a person can mend, before the folder is touched where possible.
        RunInterrupted: after SIGTERM, SIGUSR1 or Ctrl-C, with the state saved.
    """
    is_main = processes()[0] == 0
    console = (console or Console()) if is_main else Console(quiet=True)
    if is_main:
        run_folder.check(folder, resume=resume, overwrite=overwrite)
    if resume:
        recipe = run_folder.resumed(folder, recipe)
    recipe = recipe or Recipe()
    work = work_of(recipe.task)
    sets = sets or open_images(work, recipe.data, console)
    if resume:
        run_folder.expect_same_data(folder, sets.classes, len(sets.train), len(sets.val))
    model, notes = work.fitted_model(recipe, sets, spec)
    if spec is not None:
        model.name = title or "custom"
    config = described(recipe, model, sets, command)
    _introduce(console, title, folder, config, notes, resume)
    opening = _Opening(folder, config, resume)
    observers = [opening, MetricsFile(), Events(), ProgressBars(title, console, lines=not title)]
    with progress_bars(console) as show:
        equipment = work.equipment(recipe, sets, model, show)
    trainer = Trainer(
        model,
        equipment.task,
        recipe,
        equipment.train_loader,
        equipment.val_loader,
        folder,
        equipment.mixing,
        observers,
        describe(model, sets.classes).header,
    )
    try:
        fit = trainer.fit(resume=resume)
    finally:
        for loader in (trainer.train_loader, trainer.val_loader):
            loader.close()  # type: ignore[attr-defined]
    if not is_main:
        return None
    return _closed(work, trainer, fit, opening, sets, judged, page, console)


def open_images(work: Work, choice: DataConfig, console: Console) -> Any:
    """Open a data set with a bar while its files are checked, and say what was left out."""
    with progress_bars(console) as show:
        sets = work.open(choice, show)
    if sets.skipped:
        console.print(f"{len(sets.skipped)} files left out, they cannot be used:", style="yellow", highlight=False)
        for bad in sets.skipped[:5]:
            console.print(f"  {bad.path}: {bad.reason}", markup=False, highlight=False)
    return sets


@contextmanager
def progress_bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A function that is told what is done, how many of how many, and shows it on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bars: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done, total=total)

        yield show


class _Opening(Observer):
    """Writes config.json, and clears away the run before, at the last moment before the first update."""

    def __init__(self, folder: Path, config: dict[str, Any], resume: bool) -> None:
        self.folder, self.config, self.resume = folder, config, resume
        self.was_finished = False
        self.clock = time.perf_counter()

    def started(self, trainer: Trainer) -> None:
        self.was_finished = trainer.position.epoch >= trainer.total_epochs
        if not self.resume:
            run_folder.start_over(self.folder)
            write_config(self.folder, self.config)
        self.clock = time.perf_counter()


def _closed(
    work: Work,
    trainer: Trainer,
    fit: FitResult,
    opening: _Opening,
    sets: Any,
    judged: str,
    page: bool,
    console: Console,
) -> RunResult:
    """Evaluate, write the report, sum up."""
    from .report.files import read_evaluation

    folder = trainer.folder
    seconds = 0.0 if opening.was_finished else time.perf_counter() - opening.clock
    kept = read_evaluation(folder) if opening.was_finished else None
    if kept is None:
        with console.status("evaluating"):
            figures = _judge(work, trainer, sets, BEST if judged == "best" else LAST)
    else:
        figures = kept.figures
    return RunResult(
        folder=folder,
        figures=figures,
        last=fit.figures,
        figure=trainer.task.best,
        best=fit.best,
        best_epoch=fit.best_epoch,
        seconds=seconds,
        parameters=opening.config["parameters"],
        macs=opening.config["macs"],
        report=_page(folder) if page else None,
        was_finished=opening.was_finished,
    )


def _page(folder: Path) -> Path:
    from .report.page import write_run_page

    return write_run_page(folder)


def _judge(work: Work, trainer: Trainer, sets: Any, name: str) -> Mapping[str, float]:
    """Evaluate the weights in one of the run's files and write evaluation.json."""
    trainer.model.load_state_dict(read_tensors(trainer.folder / name)[0])
    accelerator, recipe = trainer.engine.accelerator, trainer.recipe
    result = work.score(
        trainer.model,
        sets.val,
        sets.classes,
        batch_size=recipe.optimizer.batch_size // recipe.optimizer.accumulation,
        workers=recipe.data.workers,
        memory=isinstance(trainer.val_loader, MemoryLoader),
        device=accelerator.device,
        autocast=accelerator.autocast,
    )
    result.write(trainer.folder / EVALUATION, weights=name)
    return result.figures


def _introduce(
    console: Console, title: str, folder: Path, config: Mapping[str, Any], notes: list[str], resume: bool
) -> None:
    """What is about to run, and what was decided without being asked."""
    if title:
        return
    data = config["data"]
    console.print(
        f"{config['name']}: {config['parameters']:,} parameters, {config['macs'] / 1e6:,.1f} M multiply-adds an image"
    )
    console.print(
        f"{data['source']}: {data['train']:,} images to train on, {data['val']:,} to evaluate on, "
        f"{len(config['classes'])} class{'es' if len(config['classes']) != 1 else ''}",
        markup=False,
    )
    for note in notes:
        console.print(f"  {note}", style="dim", soft_wrap=True)
    console.print(f"{'going on in' if resume else 'writing to'} {folder}", markup=False)
