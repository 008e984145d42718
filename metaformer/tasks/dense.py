"""What detection and segmentation share: opening annotated data, fitting a system to it, its loaders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..data.dataset import Dataset, Splits
from ..data.loading.loader import Loader
from ..data.loading.samples import Collate, Transform, as_lists
from ..data.loading.schedule import BatchSchedule
from ..errors import DataError
from ..recipe import DataConfig, Recipe
from ..spec.model import AnySpec
from ..training.device import processes
from ..training.evaluation import Measured, measure
from ..training.randomness import reseed
from ..types import Objective
from .task import EvaluationOptions, Loaders, Task, expect_layout

_Splits = TypeVar("_Splits", bound=Splits[Any])
Sides = tuple[int, int]
"""Short and long side of images in pixels, where a recipe leaves them open."""


def open_annotated(open_: Callable[[], _Splits], data: DataConfig, task: Task) -> _Splits:
    """What ``open_`` gives; its ``DataError`` also says which other task the folder is laid out for."""
    try:
        return open_()
    except DataError as error:
        expect_layout(data, task, error)
        raise


def build_dense(
    create: Callable[..., Any],
    system: str,
    recipe: Recipe,
    classes: Sequence[str],
    spec: AnySpec | None,
    sides: Sides,
) -> Any:
    """A detector or a segmenter with the recipe's backbone, or with ``spec`` as its backbone."""
    model, dense = recipe.model, recipe.dense
    short = dense.short_side or sides[0]
    reseed(recipe.seed, 0, 0, 0)  # the same initial weights in every process and every repetition
    return create(
        system,
        backbone=spec or model.name,
        num_classes=len(classes),
        pretrained_backbone=model.pretrained and model.weights is None,
        backbone_weights=model.weights,
        short_side=short,
        long_side=dense.long_side or round(short * sides[1] / sides[0]),
        square=dense.square,
        img_size=model.img_size,
        mixers=None if model.mixers is None else list(model.mixers),
        drop_path_rate=model.drop_path_rate or 0.0,
        stem_stride=model.stem_stride,
    )


def make_loaders(
    recipe: Recipe,
    splits: Splits[Any],
    train_transform: Transform,
    eval_transform: Transform,
    collate: Collate,
) -> Loaders:
    """Loaders of this process's share; ``collate`` is that of the training batches."""
    rank, world = processes()
    size, workers = recipe.optimizer.batch_size // recipe.optimizer.accumulation, recipe.data.workers
    train = BatchSchedule(len(splits.train), size, seed=recipe.seed, shuffle=True, rank=rank, world=world)
    val = BatchSchedule(len(splits.val), size, rank=rank, world=world)
    return Loaders(
        train=Loader(splits.train, train_transform, train, collate=collate, workers=workers),
        val=evaluation_loader(splits.val, eval_transform, val, workers),
    )


def evaluation_loader(dataset: Dataset[Any], transform: Transform, schedule: BatchSchedule, workers: int = 0) -> Loader:
    """Lists of images; an unreadable one that may be skipped is left out, because it must not be counted twice."""
    return Loader(dataset, transform, schedule, collate=as_lists, replace=False, workers=workers)


def measure_dense(
    model: Any, dataset: Dataset[Any], transform: Transform, objective: Objective, options: EvaluationOptions
) -> Measured:
    """Metrics of a detector or a segmenter on all images of a dataset, each once."""
    loader = evaluation_loader(dataset, transform, BatchSchedule(len(dataset), options.batch_size), options.workers)
    try:
        return measure(
            model.to(options.device),
            objective,
            loader,
            device=options.device,
            autocast=options.autocast,
            each_batch=options.each_batch,
        )
    finally:
        loader.close()
