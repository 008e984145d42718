"""Naming one class for each image: images by class, a classifier fitted to them, its loaders, its score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...data.inspection import LAYOUTS, other_layout
from ...data.loading.cached_images import kept_in_memory
from ...data.loading.loader import evaluation_loader, training_loader
from ...data.sets import ImageSplits, LabeledImages, Progress
from ...data.sources import open_source
from ...data.transforms.mixup import Mixing
from ...errors import DataError
from ...factory.classifier import create_model
from ...model.build import Model
from ...recipe import DataConfig, Recipe
from ...spec.model import AnySpec
from ...training.device import place_of, processes
from ...training.randomness import reseed
from ...zoo.catalogue import find
from ..task import Equipment
from .evaluate import Score, score
from .objective import Classification

SMALL = 64
"""Images up to this side, all of one size, are trained at their own size unless the recipe says otherwise."""


class ClassificationWork:
    """Implements ``Work``."""

    def open(self, choice: DataConfig, progress: Progress | None = None) -> ImageSplits:
        """The images; raises ``DataError``, also where the folder is laid out for another task."""
        if other := other_layout(choice, "classification"):  # "images" and "annotations" would pass for two classes
            raise DataError(f"expected {LAYOUTS['classification']}; {other}")
        return open_source(choice, progress)

    def fitted_model(self, recipe: Recipe, sets: ImageSplits, spec: AnySpec | None = None) -> tuple[Model, list[str]]:
        """The recipe's classifier for these images, and what was decided for it."""
        return fitted_model(recipe, sets, spec)

    def equipment(self, recipe: Recipe, sets: ImageSplits, model: Model, progress: Progress | None = None) -> Equipment:
        """Loaders of this process's share, the task, and mixing where the recipe asks for it."""
        rank, world = processes()
        moves, varied, channels = recipe.optimizer, recipe.augmentation, model.spec.in_chans
        pixels, classes = model.preprocessing, len(sets.classes)
        memory = kept_in_memory(recipe.data, varied, len(sets.train) + len(sets.val), pixels.size, channels)
        shared: dict[str, Any] = {
            "memory": memory,
            "device": place_of(recipe.machine) if memory else "cpu",
            "workers": recipe.data.workers,
            "progress": progress,
            "batch_size": moves.batch_size // moves.accumulation,
            "rank": rank,
            "world": world,
            "seed": recipe.seed,
        }
        return Equipment(
            task=Classification(classes, moves.label_smoothing),
            train_loader=training_loader(sets.train, pixels, varied, channels, **shared),
            val_loader=evaluation_loader(sets.val, pixels, channels, **shared),
            mixing=Mixing(varied, classes, moves.label_smoothing) if varied.mixes else None,
        )

    def score(
        self, model: Model, images: LabeledImages, classes: Sequence[str], *, batch_size: int, **more: Any
    ) -> Score:
        """Top-1, top-5, confusions and samples."""
        channels = model.spec.in_chans
        return score(model, images, classes, model.preprocessing, channels=channels, batch_size=batch_size, **more)


def fitted_model(recipe: Recipe, sets: ImageSplits, spec: AnySpec | None = None) -> tuple[Model, list[str]]:
    """The recipe's model for these images, and what was decided for it, in sentences.

    The recipe's own values are obeyed. Where it leaves them open: as many classes and channels as the data has; the
    images' own size when they share a small one; a stem that steps by less, because the published step would leave
    nothing of a small image.
    """
    choice, notes, native = recipe.model, [], sets.native_size
    own = spec or find(choice.name).spec
    size = (choice.img_size, choice.img_size) if choice.img_size else None
    stride = choice.stem_stride
    if spec is None and size is None and native is not None and max(native) <= SMALL:
        size = native
        notes.append(f"input {_by(size)}: the images' own size")
        if recipe.augmentation.policy == "imagenet":
            notes.append("random crops leave little of images this small; --recipe small shifts them instead")
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
    """The stem's step for images of ``size`` (height, width); None where the published one stays.

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
    """The recipe's evaluation crop; images that have the input's size already are taken whole."""
    crop = recipe.augmentation.crop
    if crop is None and native == model.preprocessing.size:
        crop = 1.0
    if crop is not None:
        model.preprocessing = model.preprocessing.with_changes(crop=crop)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
