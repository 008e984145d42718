"""``metaformer train``: a recipe in, a trained model and a run folder out.

``train`` opens the data, builds the model, runs the trainer, evaluates the model and writes the report. The task's
object (``tasks/``) does each of these for its kind of data. Settings that were chosen automatically are printed. Works
in one process and under ``torchrun``.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from ..data.dataset import Splits
from ..errors import RunError
from ..evaluation import Evaluation
from ..metrics import MetricDef
from ..model.complexity import count_macs, count_parameters
from ..model.dense.build import AnyModel
from ..model.device import resolve_device
from ..recipe import Machine, Recipe
from ..spec.model import AnySpec
from ..tasks.task import EvaluationOptions, Loaders, Task, task_named
from ..training.device import processes
from ..training.journal import Events, MetricsFile
from ..training.observer import Observer
from ..training.progress import ProgressBars
from ..training.trainer import BEST, LAST, FitResult, Trainer
from ..version import __version__
from ..weights.description import describe
from ..weights.safetensors_io import read_tensors
from . import folder as run_folder
from .config import DataSummary, MachineSummary, RunConfig, SkippedFile
from .data import open_data, progress_bars
from .evaluation_file import read_evaluation, write_evaluation
from .provenance import commit, cpu_name


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The results of a run."""

    folder: Path
    metrics: Mapping[str, float]
    """The metrics in ``evaluation.json``."""
    last: Mapping[str, float]
    """Everything measured in the last epoch, as in ``metrics.csv``."""
    primary: MetricDef
    """The metric that selects the best epoch."""
    best: float | None
    """Its best value in any epoch; None where it was not measured."""
    best_epoch: int
    """The epoch with that value; the first is 1."""
    seconds: float
    """From the first update of this call to its last evaluation; 0 for a run that was finished already."""
    parameters: int
    macs: int
    """Multiply-adds of one sample."""
    report: Path | None
    """The path of report.html, where it was written."""
    was_finished: bool
    """Whether all epochs were trained before this call."""


def train(
    recipe: Recipe | None,
    folder: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    spec: AnySpec | None = None,
    splits: Splits[Any] | None = None,
    evaluated: Literal["best", "last"] = "best",
    title: str = "",
    page: bool = True,
    console: Console | None = None,
) -> RunResult | None:
    """Train a recipe in a folder.

    Args:
        recipe: the recipe; None with ``resume`` means the run's own, otherwise the defaults.
        folder: where everything is written; new, empty, or a run's with ``resume`` or ``overwrite``.
        resume: continue exactly from the folder's newest checkpoint.
        overwrite: remove the run that is in the folder, once this one is ready to start.
        command: the command line, stored in config.json.
        spec: a model instead of ``recipe.model.name``; for dense tasks, its backbone.
        splits: an opened dataset; by default ``recipe.data`` is opened.
        evaluated: the weights that evaluation.json and the report describe: of the best epoch or of the last.
        title: a word before the progress bars.
        page: whether to write the report; ``metaformer report`` can write it later.
        console: where to print; standard output by default.

    Returns:
        The results in the main process, None in the other processes of ``torchrun``.

    Raises:
        InputError: wrong input; where possible before the folder is changed.
        RunInterrupted: after SIGTERM, SIGUSR1 or Ctrl-C, with the state saved.
    """
    folder = Path(folder)
    is_main = processes()[0] == 0  # from the environment, since Accelerate starts with the trainer
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
    if not title:  # a sweep gives its runs titles and has a summary of its own
        _print_summary(console, folder, config, notes, resume)
    start = _RunStart(folder, config, resume)
    # first, so that the folder is empty when the others open their files
    observers = [start, MetricsFile(), Events(), ProgressBars(title, console, epoch_lines=not title)]
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
            loader.close()  # worker processes would outlive an error
    if not is_main:
        return None
    return _finish(task, trainer, loaders, fit, start, splits, evaluated, page, console)


def _config(recipe: Recipe, model: AnyModel, splits: Splits[Any], primary: MetricDef, command: str) -> RunConfig:
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


class _RunStart(Observer):
    """Removes an earlier run and writes config.json, when everything else has succeeded."""

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


def _finish(
    task: Task,
    trainer: Trainer,
    loaders: Loaders,
    fit: FitResult,
    start: _RunStart,
    splits: Splits[Any],
    evaluated: str,
    page: bool,
    console: Console,
) -> RunResult:
    """Evaluate the weights, write the report, and return the results."""
    folder = trainer.folder
    seconds = 0.0 if start.was_finished else time.perf_counter() - start.clock
    evaluation = None  # also for a finished run that was killed before its evaluation
    if start.was_finished:
        with suppress(RunError):  # a damaged one is written again
            evaluation = read_evaluation(folder, task)
    primary = trainer.objective.primary
    if fit.best is None and evaluated == "best":
        console.print(
            f"{primary.label} was not finite in any epoch, so there is no best epoch; the weights of the last epoch, "
            f"{LAST}, are evaluated",
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
        parameters=start.config.parameters,
        macs=start.config.macs,
        report=_write_page(folder) if page else None,
        was_finished=start.was_finished,
    )


def _write_page(folder: Path) -> Path:
    from .report.page import write_run_page  # imports matplotlib

    return write_run_page(folder)


def _evaluate(task: Task, trainer: Trainer, loaders: Loaders, splits: Splits[Any], weights: str) -> Evaluation:
    """Evaluate the weights in one of the run's files and write evaluation.json."""
    # from the file, which may have averaged weights or those of an earlier epoch
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


def _print_summary(console: Console, folder: Path, config: RunConfig, notes: list[str], resume: bool) -> None:
    """Print the model, the data, and the settings that were chosen automatically."""
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
