"""Where the rooms meet: a recipe in, a trained model and a run folder out.

``train`` opens the pictures, builds the model for them, hands both to the trainer, and at the end evaluates and
writes the report. It prints what it decided by itself. Works alone and under ``torchrun``.
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

from . import run_folder
from .data.loader import MemoryLoader, evaluation_loader, training_loader
from .data.memory import kept_in_memory
from .data.mixing import Mixing
from .data.sets import PictureSets
from .data.sources import open_source
from .factory import create_model
from .model.build import Model
from .recipe import DataChoice, Recipe
from .run_config import described, write_config
from .run_folder import EVALUATION
from .scoring import Score, score
from .spec import AnySpec
from .tasks.classification import Classification
from .training.device import place_of, processes
from .training.journal import Events, MetricsFile
from .training.observer import Observer
from .training.progress import ProgressBars
from .training.randomness import reseed
from .training.trainer import BEST, LAST, Trainer
from .weights.description import describe
from .weights.files import read_tensors
from .zoo.catalogue import find

if TYPE_CHECKING:
    from .training.trainer import FitResult

SMALL = 64
"""Pictures up to this side, all of one size, are trained at their own size unless the recipe says otherwise."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to."""

    folder: Path
    figures: Mapping[str, float]
    """Of the evaluation in ``evaluation.json``."""
    last: Mapping[str, float]
    """Everything measured in the last epoch, as in ``metrics.csv``."""
    best: float
    """The best top-1 of any epoch, a share."""
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
    sets: PictureSets | None = None,
    judged: Literal["best", "last"] = "best",
    title: str = "",
    page: bool = True,
    console: Console | None = None,
) -> RunResult | None:
    """Train a recipe in a folder.

    Args:
        recipe: the run; nothing takes the folder's own, to resume it.
        folder: where everything is written; new, empty, or a run's with ``resume`` or ``overwrite``.
        resume: go on from the folder's newest state, exactly.
        overwrite: remove the run that is in the folder once this one is ready to start.
        command: the command line, kept in config.json.
        spec: a model of your own in place of ``recipe.model.name``.
        sets: pictures that are open already; opened from ``recipe.data`` when left out.
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
    sets = sets or open_pictures(recipe.data, console)
    if resume:
        run_folder.expect_same_data(folder, sets.classes, len(sets.train), len(sets.val))
    model, notes = fitted_model(recipe, sets, spec)
    if spec is not None:
        model.name = title or "custom"
    config = described(recipe, model, sets, command)
    _introduce(console, title, folder, config, notes, resume)
    opening = _Opening(folder, config, resume)
    observers = [opening, MetricsFile(), Events(), ProgressBars(title, console, lines=not title)]
    trainer = _trainer(recipe, sets, model, folder, observers, console)
    try:
        fit = trainer.fit(resume=resume)
    finally:
        for loader in (trainer.train_loader, trainer.val_loader):
            loader.close()  # type: ignore[attr-defined]
    if not is_main:
        return None
    return _closed(trainer, fit, opening, sets, judged, page, console)


def open_pictures(choice: DataChoice, console: Console) -> PictureSets:
    """Open a data set with a bar while its files are checked, and say what was left out."""
    with _bar(console) as show:
        sets = open_source(choice, show)
    if sets.skipped:
        console.print(f"{len(sets.skipped)} files left out, they cannot be used:", style="yellow", highlight=False)
        for bad in sets.skipped[:5]:
            console.print(f"  {bad.path}: {bad.reason}", markup=False, highlight=False)
    return sets


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bars: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done, total=total)

        yield show


def fitted_model(recipe: Recipe, sets: PictureSets, spec: AnySpec | None = None) -> tuple[Model, list[str]]:
    """The recipe's model for these pictures, and what was decided for it, in sentences.

    The recipe's own values are obeyed. Where it leaves them open: as many classes and channels as the data has; the
    pictures' own size when they share a small one; a stem that steps by less, because the published step would leave
    nothing of a small picture.
    """
    choice, notes, native = recipe.model, [], sets.native_size
    own = spec or find(choice.name).spec
    size = (choice.img_size, choice.img_size) if choice.img_size else None
    stride = choice.stem_stride
    if spec is None and size is None and native is not None and max(native) <= SMALL:
        size = native
        notes.append(f"input {_by(size)}: the pictures' own size")
        if recipe.augmentation.policy == "imagenet":
            notes.append("random crops leave little of pictures this small; --recipe small shifts them instead")
    if spec is None and stride is None:
        stride = fitting_stride(own, size or own.img_size)
        if stride is not None:
            notes.append(f"stem stride {stride} instead of {own.stem_stride}: the input is small")
    reseed(recipe.seed, 0, 0, 0)  # the same initial weights in every process and every repetition
    model: Model = create_model(
        spec or choice.name,
        pretrained=choice.pretrained and choice.weights is None,
        weights=choice.weights,
        num_classes=len(sets.classes),
        in_chans=choice.in_chans or sets.channels,
        img_size=size,
        drop_path_rate=choice.drop_path_rate,
        drop_rate=choice.drop_rate,
        mixers=None if choice.mixers is None else list(choice.mixers),
        stem_stride=stride,
    )
    _set_crop(model, recipe, native)
    return model, notes


def fitting_stride(spec: AnySpec, size: tuple[int, int]) -> int | None:
    """The stem's step for pictures of ``size`` (height, width); nothing where the published one stays.

    A pyramid steps by 1 up to 40 pixels and by 2 up to 96; a model of one grid wants 8 patches a side.
    """
    published = spec.stem_stride
    if published is None:
        return None
    if len(spec.mixers) == 1:
        wanted = max(1, min(size) // 8)
    else:
        wanted = 1 if min(size) <= 40 else 2 if min(size) <= 96 else published
    return wanted if wanted < published else None


def _set_crop(model: Model, recipe: Recipe, native: tuple[int, int] | None) -> None:
    """The recipe's evaluation crop; pictures that have the input's size already are taken whole."""
    crop = recipe.augmentation.crop
    if crop is None and native == model.preprocessing.size:
        crop = 1.0
    if crop is not None:
        model.preprocessing = model.preprocessing.with_changes(crop=crop)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _trainer(
    recipe: Recipe, sets: PictureSets, model: Model, folder: Path, observers: list[Observer], console: Console
) -> Trainer:
    rank, world = processes()
    moves, varied, channels = recipe.optimisation, recipe.augmentation, model.spec.in_chans
    pixels, classes = model.preprocessing, len(sets.classes)
    memory = kept_in_memory(recipe.data, varied, len(sets.train) + len(sets.val), pixels.size, channels)
    with _bar(console) as show:
        shared: dict[str, Any] = {
            "memory": memory,
            "device": place_of(recipe.machine) if memory else "cpu",
            "workers": recipe.data.workers,
            "progress": show,
            "batch_size": moves.batch_size // moves.accumulation,
            "rank": rank,
            "world": world,
            "seed": recipe.seed,
        }
        train_loader = training_loader(sets.train, pixels, varied, channels, **shared)
        val_loader = evaluation_loader(sets.val, pixels, channels, **shared)
    return Trainer(
        model,
        Classification(classes, moves.label_smoothing),
        recipe,
        train_loader,
        val_loader,
        folder,
        Mixing(varied, classes, moves.label_smoothing) if varied.mixes else None,
        observers,
        describe(model, sets.classes).header,
    )


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
    trainer: Trainer,
    fit: FitResult,
    opening: _Opening,
    sets: PictureSets,
    judged: str,
    page: bool,
    console: Console,
) -> RunResult:
    """Evaluate, write the report, sum up."""
    from .report.run_files import read_evaluation

    folder = trainer.folder
    seconds = 0.0 if opening.was_finished else time.perf_counter() - opening.clock
    kept = read_evaluation(folder) if opening.was_finished else None
    if kept is None:
        with console.status("evaluating"):
            figures = _judge(trainer, sets, BEST if judged == "best" else LAST).figures
    else:
        figures = kept.figures
    return RunResult(
        folder=folder,
        figures=figures,
        last=fit.figures,
        best=fit.best,
        best_epoch=fit.best_epoch,
        seconds=seconds,
        parameters=opening.config["parameters"],
        macs=opening.config["macs"],
        report=_page(folder) if page else None,
        was_finished=opening.was_finished,
    )


def _page(folder: Path) -> Path:
    from .report.run_page import write_run_page

    return write_run_page(folder)


def _judge(trainer: Trainer, sets: PictureSets, name: str) -> Score:
    """Evaluate the weights in one of the run's files and write evaluation.json."""
    model, engine, recipe = trainer.model, trainer.engine, trainer.recipe
    assert isinstance(model, Model)
    model.load_state_dict(read_tensors(trainer.folder / name)[0])
    result = score(
        model,
        sets.val,
        sets.classes,
        model.preprocessing,
        channels=model.spec.in_chans,
        batch_size=recipe.optimisation.batch_size // recipe.optimisation.accumulation,
        workers=recipe.data.workers,
        memory=isinstance(trainer.val_loader, MemoryLoader),
        device=engine.accelerator.device,
        autocast=engine.accelerator.autocast,
    )
    result.write(trainer.folder / EVALUATION, weights=name)
    return result


def _introduce(
    console: Console, title: str, folder: Path, config: Mapping[str, Any], notes: list[str], resume: bool
) -> None:
    """What is about to run, and what was decided without being asked."""
    if title:
        return
    data = config["data"]
    console.print(
        f"{config['name']}: {config['parameters']:,} parameters, {config['macs'] / 1e6:,.1f} M multiply-adds a picture"
    )
    console.print(
        f"{data['source']}: {data['train']:,} pictures to train on, {data['val']:,} to evaluate on, "
        f"{len(config['classes'])} classes",
        markup=False,
    )
    for note in notes:
        console.print(f"  {note}", style="dim", soft_wrap=True)
    console.print(f"{'going on in' if resume else 'writing to'} {folder}", markup=False)
