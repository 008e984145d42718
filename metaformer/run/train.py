"""Where the rooms meet: a recipe in, a trained model and a run folder out.

``train`` opens the data, builds the model for it, hands both to the trainer, and at the end evaluates and writes the
report. What that means for a task is up to the task's object (``tasks/``). It prints what it decided by itself. Works
alone and under ``torchrun``.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console

from ..errors import RunError
from ..metrics import MetricDef
from ..model.complexity import count_macs, count_parameters
from ..model.device import resolve_device
from ..recipe import Machine, Recipe
from ..spec.model import AnySpec
from ..tasks.task import EvaluationOptions, Loaders, Task, task_named
from ..training.device import processes
from ..training.journal import Events, MetricsFile
from ..training.observer import Observer
from ..training.progress import ProgressBars
from ..training.trainer import BEST, LAST, Trainer
from ..version import __version__
from ..weights.description import describe
from ..weights.safetensors_io import read_tensors
from . import folder as run_folder
from .config import DataSummary, MachineSummary, RunConfig, SkippedFile
from .data import open_data, progress_bars
from .evaluation_file import read_evaluation, write_evaluation
from .provenance import commit, cpu_name

if TYPE_CHECKING:
    from ..training.trainer import FitResult


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to."""

    folder: Path
    metrics: Mapping[str, float]
    """Of the evaluation in ``evaluation.json``."""
    last: Mapping[str, float]
    """Everything measured in the last epoch, as in ``metrics.csv``."""
    primary: MetricDef
    """The metric by which weights are the best."""
    best: float | None
    """Its best value in any epoch; None where it was never measured."""
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
    folder: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    spec: AnySpec | None = None,
    splits: Any = None,
    evaluated: Literal["best", "last"] = "best",
    title: str = "",
    page: bool = True,
    console: Console | None = None,
) -> RunResult | None:
    """Train a recipe in a folder.

    Args:
        recipe: the run; None takes the folder's own, to resume it.
        folder: where everything is written; new, empty, or a run's with ``resume`` or ``overwrite``.
        resume: continue from the folder's newest state, exactly.
        overwrite: remove the run that is in the folder once this one is ready to start.
        command: the command line, kept in config.json.
        spec: a model of your own in place of ``recipe.model.name``; for dense tasks, its backbone.
        splits: data that is open already; opened from ``recipe.data`` when left out.
        evaluated: which weights evaluation.json and the report show: those of the best epoch or of the last.
        title: a word in front of the progress bars.
        page: whether the report is written at the end; ``metaformer report`` writes it later too.
        console: where to print; standard output when left out.

    Returns:
        The result on the main process, None on the others of a ``torchrun``.

    Raises:
        InputError: anything a person can fix, before the folder is touched where possible.
        RunInterrupted: after SIGTERM, SIGUSR1 or Ctrl-C, with the state saved.
    """
    folder = Path(folder)
    is_main = processes()[0] == 0
    console = (console or Console()) if is_main else Console(quiet=True)
    if is_main:
        run_folder.RUN_FOLDER.check(folder, resume=resume, overwrite=overwrite)
    if resume:
        recipe = run_folder.recipe_to_resume(folder, recipe)
    recipe = recipe or Recipe()
    task = task_named(recipe.task)
    splits = splits or open_data(task, recipe.data, console)
    if resume:
        run_folder.expect_same_data(folder, splits.classes, len(splits.train), len(splits.val))
    model, notes = task.build(recipe, splits, spec)
    if spec is not None:
        model.name = title or "custom"
    objective = task.objective(recipe, splits, model)
    config = _config(recipe, model, splits, objective.primary, command)
    if not title:
        _introduce(console, folder, config, notes, resume)
    opening = _Opening(folder, config, resume)
    observers = [opening, MetricsFile(), Events(), ProgressBars(title, console, epoch_lines=not title)]
    with progress_bars(console) as show:
        loaders = task.loaders(recipe, splits, model, show)
    trainer = Trainer(
        model,
        objective,
        recipe,
        loaders.train,
        loaders.val,
        folder,
        loaders.mixing,
        observers,
        describe(model, splits.classes, task.name).header,
    )
    try:
        fit = trainer.fit(resume=resume)
    finally:
        for loader in (loaders.train, loaders.val):
            loader.close()
    if not is_main:
        return None
    return _finished(task, trainer, loaders, fit, opening, splits, evaluated, page, console)


def _config(recipe: Recipe, model: Any, splits: Any, primary: MetricDef, command: str) -> RunConfig:
    return RunConfig(
        recipe=recipe,
        name=model.name,
        spec=describe(model).spec,
        preprocessing=model.preprocessing,
        classes=tuple(splits.classes),
        primary=primary.name,
        data=DataSummary(
            source=recipe.data.source,
            train=len(splits.train),
            val=len(splits.val),
            skipped=tuple(SkippedFile(path=bad.path, reason=bad.reason) for bad in splits.skipped),
        ),
        parameters=count_parameters(model),
        macs=count_macs(model),
        machine=_machine(recipe.machine),
        version=__version__,
        commit=commit(),
        command=command,
    )


def _machine(machine: Machine) -> MachineSummary:
    device = resolve_device(machine)
    return MachineSummary(
        cpu=cpu_name(),
        threads=machine.threads or torch.get_num_threads(),
        torch=torch.__version__,
        python=platform.python_version(),
        device=torch.cuda.get_device_name() if device == "cuda" else device,
        processes=int(os.environ.get("WORLD_SIZE", 1)),
    )


class _Opening(Observer):
    """Writes config.json, and removes the run before, at the last moment before the first update."""

    def __init__(self, folder: Path, config: RunConfig, resume: bool) -> None:
        self.folder, self.config, self.resume = folder, config, resume
        self.was_finished = False
        self.clock = time.perf_counter()

    def started(self, trainer: Trainer) -> None:
        self.was_finished = trainer.state.epoch >= trainer.total_epochs
        if not self.resume:
            run_folder.RUN_FOLDER.clear(self.folder)
            self.config.write(self.folder)
        self.clock = time.perf_counter()


def _finished(
    task: Task,
    trainer: Trainer,
    loaders: Loaders,
    fit: FitResult,
    opening: _Opening,
    splits: Any,
    evaluated: str,
    page: bool,
    console: Console,
) -> RunResult:
    """Evaluate, write the report, sum up."""
    folder = trainer.folder
    seconds = 0.0 if opening.was_finished else time.perf_counter() - opening.clock
    evaluation = None
    if opening.was_finished:
        with suppress(RunError):  # a damaged one is written again
            evaluation = read_evaluation(folder, task)
    primary = trainer.objective.primary
    if fit.best is None and evaluated == "best":
        console.print(
            f"{primary.label} was not a number in any epoch, so no epoch is the best: the weights of the last are kept "
            f"in {LAST} and evaluated",
            style="yellow",
            soft_wrap=True,
        )
        evaluated = "last"
    if evaluation is None:
        with console.status("evaluating"):
            evaluation = _evaluate(task, trainer, loaders, splits, BEST if evaluated == "best" else LAST)
    return RunResult(
        folder=folder,
        metrics=evaluation.metrics,
        last=fit.metrics,
        primary=primary,
        best=fit.best,
        best_epoch=fit.best_epoch,
        seconds=seconds,
        parameters=opening.config.parameters,
        macs=opening.config.macs,
        report=_page(folder) if page else None,
        was_finished=opening.was_finished,
    )


def _page(folder: Path) -> Path:
    from .report.page import write_run_page  # matplotlib comes with it

    return write_run_page(folder)


def _evaluate(task: Task, trainer: Trainer, loaders: Loaders, splits: Any, weights: str) -> Any:
    """Evaluate the weights in one of the run's files and write evaluation.json."""
    trainer.model.load_state_dict(read_tensors(trainer.folder / weights)[0])
    accelerator, recipe = trainer.engine.accelerator, trainer.recipe
    options = EvaluationOptions(
        batch_size=recipe.optimizer.batch_size // recipe.optimizer.accumulation,
        workers=recipe.data.workers,
        cached=loaders.cached,
        device=accelerator.device,
        autocast=accelerator.autocast,
    )
    evaluation = task.evaluate(trainer.model, splits.val, splits.classes, options).with_changes(weights=weights)
    write_evaluation(trainer.folder, evaluation)
    return evaluation


def _introduce(console: Console, folder: Path, config: RunConfig, notes: list[str], resume: bool) -> None:
    """What is about to run, and what was decided without being asked."""
    classes = len(config.classes)
    console.print(f"{config.name}: {config.parameters:,} parameters, {config.macs / 1e6:,.1f} M multiply-adds an image")
    console.print(
        f"{config.data.source}: {config.data.train:,} images to train on, {config.data.val:,} to evaluate on, "
        f"{classes} class{'es' if classes != 1 else ''}",
        markup=False,
    )
    for note in notes:
        console.print(f"  {note}", style="dim", soft_wrap=True)
    console.print(f"{'resuming in' if resume else 'writing to'} {folder}", markup=False)
