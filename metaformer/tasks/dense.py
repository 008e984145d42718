"""Code that detection and segmentation share: opening data, building a model, loaders, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..data.dataset import Dataset, Splits
from ..data.loading.loader import Loader
from ..data.loading.samples import Collate, Transform, as_lists
from ..data.loading.schedule import BatchSchedule
from ..errors import DataError
from ..model.dense.detector import Detector, Segmenter
from ..recipe import DataConfig, Recipe
from ..spec.model import AnySpec
from ..training.device import processes
from ..training.evaluation import Measured, measure
from ..training.randomness import reseed
from ..types import Objective
from .task import EvaluationOptions, Loaders, Task, expect_layout

_Splits = TypeVar("_Splits", bound=Splits[Any])
ModelT = TypeVar("ModelT", Detector, Segmenter)
Sides = tuple[int, int]
"""Short and long side of images in pixels, for recipes without them."""


def open_annotated(open_: Callable[[], _Splits], data: DataConfig, task: Task) -> _Splits:
    """Call ``open_``; its ``DataError`` gets a hint where the folder has the layout of another task."""
    try:
        return open_()
    except DataError as error:
        expect_layout(data, task, error)  # always raises; the next line is for type checkers
        raise


def build_dense(
    create: Callable[..., ModelT],
    system: str,
    recipe: Recipe,
    classes: Sequence[str],
    spec: AnySpec | None,
    sides: Sides,
) -> ModelT:
    """A detector or a segmenter with the recipe's backbone, or with ``spec`` as its backbone."""
    model, dense = recipe.model, recipe.dense
    short = dense.short_side or sides[0]  # a recipe's short side alone keeps the ratio of ``sides``
    reseed(recipe.seed, 0, 0, 0)  # the same initial weights in every process and every repetition
    return create(
        system,
        backbone=spec or model.name,
        num_classes=len(classes),
        pretrained_backbone=model.pretrained and model.weights is None,  # a recipe's weights file wins
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
    """The loaders of this process; ``collate`` is for training batches."""
    rank, world = processes()
    size, workers = recipe.optimizer.batch_size // recipe.optimizer.accumulation, recipe.data.workers
    train = BatchSchedule(len(splits.train), size, seed=recipe.seed, shuffle=True, rank=rank, world=world)
    val = BatchSchedule(len(splits.val), size, rank=rank, world=world)
    return Loaders(
        train=Loader(splits.train, train_transform, train, collate=collate, workers=workers),
        val=evaluation_loader(splits.val, eval_transform, val, workers),
    )


def evaluation_loader(dataset: Dataset[Any], transform: Transform, schedule: BatchSchedule, workers: int = 0) -> Loader:
    """A loader of lists of images. Unreadable images that may be skipped are left out."""
    # training replaces them by others, which here would be counted twice
    return Loader(dataset, transform, schedule, collate=as_lists, replace=False, workers=workers)


def measure_dense(
    model: Detector | Segmenter,
    dataset: Dataset[Any],
    transform: Transform,
    objective: Objective,
    options: EvaluationOptions,
) -> Measured:
    """Evaluate a detector or a segmenter on all images of a dataset, each once."""
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
