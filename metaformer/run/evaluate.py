"""``metaformer eval``: a trained model and a dataset in, an evaluation out. Also reads and writes evaluation.json."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from rich.console import Console
from rich.progress import Progress

from ..data.dataset import concatenate
from ..errors import DataError, RunError
from ..evaluation import Evaluation
from ..inference.loaded import load_any, task_of
from ..model.device import resolve_device
from ..recipe import DataConfig, Machine
from ..render.numbers import count
from ..tasks.task import EvaluationOptions, task_named
from .config import is_run
from .data import data_of_run, expect_classes, is_own_data, open_data
from .evaluation_file import write_evaluation

Part = Literal["val", "train", "all"]


def evaluate(
    source: str | Path | None,
    data: DataConfig | None = None,
    *,
    model: str | None = None,
    part: Part | None = None,
    batch_size: int = 64,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    console: Console | None = None,
) -> Evaluation:
    """Evaluate a trained model on a dataset.

    Args:
        source: a run's folder, a weights file or a hub id; None means the published weights of ``model``.
        data: the dataset; by default that of the run.
        model: a model name, for published weights and for third-party checkpoints.
        part: the validation part, the training part, or both. By default the validation part; both where the data has
            no validation part of its own and the model was not trained on it.
        batch_size: images per batch.
        device: where to compute.
        console: where to print progress; standard error by default.

    Returns:
        The task's evaluation, with ``metrics`` by name.

    Raises:
        InputError: weights or images that cannot be read, or classes that differ from the model's.
    """
    if part is not None and part not in get_args(Part):
        raise RunError(f"part: expected {', '.join(map(repr, get_args(Part)))} or None, got {part!r}")
    if batch_size < 1:
        raise RunError(f"batch_size: expected at least 1, got {batch_size}")
    console = console or Console(stderr=True)
    config = data or data_of_run(source)
    if config is None:
        raise DataError("no data given; pass --data with a folder or the name of a dataset")
    task = task_named(task_of(source))
    splits = open_data(task, config, console)
    # after the data, because a third-party checkpoint does not tell its number of classes
    loaded = load_any(source, model, num_classes=len(splits.classes))
    expect_classes(loaded, splits.classes)
    if part is None:
        part = "all" if splits.held_out_here and not is_own_data(config, source) else "val"
    dataset = concatenate(splits.train, splits.val) if part == "all" else getattr(splits, part)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("evaluating", total=-(-len(dataset) // batch_size))  # rounded up
        options = EvaluationOptions(
            batch_size=batch_size,
            workers=config.workers,
            device=resolve_device(Machine(device=device)),
            each_batch=lambda: progress.advance(bar),
        )
        result = task.evaluate(loaded.model, dataset, splits.classes, options)
    total = len(splits.train) + len(splits.val)
    if part == "val" and total > len(dataset):
        console.print(
            f"{count(len(dataset))} of {count(total)} images: the validation part (--part all uses all)",
            style="dim",
            highlight=False,
        )
    return result


def expect_report_folder(folder: Path) -> None:
    """Refuse a folder that ``write_report`` could not write; call it before an evaluation that takes long.

    Raises:
        RunError: it is a run's folder or a file.
    """
    if is_run(folder):
        raise RunError(f"{folder} is a run's folder and has an evaluation of its own; choose another with --out")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; expected a folder for the evaluation. Choose another with --out")


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """Write evaluation.json and its figures to a folder that is not a run's."""
    expect_report_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_evaluation(folder, evaluation)
    task_named(evaluation.task).sections(evaluation, folder)
