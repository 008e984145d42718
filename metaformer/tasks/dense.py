"""What detection and segmentation share: opening annotated data, fitting a system to it, its loaders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..data.loading.dense_loader import dense_evaluation_loader, dense_training_loader
from ..errors import DataError
from ..recipe import DataConfig, Recipe
from ..spec.model import AnySpec
from ..training.device import processes
from ..training.evaluation import Measured, measure
from ..training.randomness import reseed
from ..types import Objective
from .task import EvaluationOptions, Loaders, Task, expect_layout

Splits = TypeVar("Splits")
Sides = tuple[int, int]
"""Short and long side of images in pixels, where a recipe leaves them open."""


def open_annotated(open_: Callable[[], Splits], data: DataConfig, task: Task) -> Splits:
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


def make_loaders(recipe: Recipe, splits: Any, model: Any) -> Loaders:
    """Loaders of this process's share."""
    rank, world = processes()
    batch_size, workers = recipe.optimizer.batch_size // recipe.optimizer.accumulation, recipe.data.workers
    spec, preprocessing = model.spec, model.preprocessing
    return Loaders(
        train=dense_training_loader(
            splits.train,
            spec,
            preprocessing,
            recipe.augmentation,
            recipe.dense,
            seed=recipe.seed,
            batch_size=batch_size,
            rank=rank,
            world=world,
            workers=workers,
        ),
        val=dense_evaluation_loader(
            splits.val, spec, preprocessing, batch_size=batch_size, rank=rank, world=world, workers=workers
        ),
    )


def measure_dense(model: Any, dataset: Any, objective: Objective, options: EvaluationOptions) -> Measured:
    """Metrics of a detector or a segmenter on all images of a dataset, each once."""
    loader = dense_evaluation_loader(
        dataset, model.spec, model.preprocessing, batch_size=options.batch_size, workers=options.workers
    )
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
