"""A recipe and labeled images in; a classifier for them and its loaders out."""

from __future__ import annotations

from ...data.dataset import Progress, Splits
from ...data.loading.cached_images import cache_images
from ...data.loading.loader import evaluation_loader, training_loader
from ...data.loading.schedule import BatchSchedule
from ...data.transforms.mixup import Mixup
from ...factory.classifier import create_model
from ...model.build import Model
from ...recipe import Recipe
from ...spec.model import AnySpec
from ...training.device import process_device, processes
from ...training.randomness import reseed
from ...zoo.catalogue import find
from ..task import Loaders

SMALL = 64
"""Images up to this side, all of one size, are trained at their own size unless the recipe says otherwise."""


def make_loaders(recipe: Recipe, splits: Splits[int], model: Model, progress: Progress | None = None) -> Loaders:
    """Loaders of this process's share, and mixing where the recipe asks for it."""
    rank, world = processes()
    optimizer, augmentation, channels = recipe.optimizer, recipe.augmentation, model.spec.in_chans
    preprocessing, classes = model.preprocessing, len(splits.classes)
    count = len(splits.train) + len(splits.val)
    cached = cache_images(recipe.data, augmentation, count, preprocessing.size, channels)
    device, workers = process_device(recipe.machine) if cached else "cpu", recipe.data.workers
    size = optimizer.batch_size // optimizer.accumulation
    train = BatchSchedule(len(splits.train), size, seed=recipe.seed, shuffle=True, rank=rank, world=world)
    val = BatchSchedule(len(splits.val), size, rank=rank, world=world)
    return Loaders(
        train=training_loader(
            splits.train,
            preprocessing,
            augmentation,
            channels,
            train,
            cache=cached,
            device=device,
            workers=workers,
            progress=progress,
        ),
        val=evaluation_loader(
            splits.val, preprocessing, channels, val, cache=cached, device=device, workers=workers, progress=progress
        ),
        mixing=Mixup(augmentation, classes, optimizer.label_smoothing) if augmentation.mixes else None,
        cached=cached,
    )


def build_model(recipe: Recipe, splits: Splits[int], spec: AnySpec | None = None) -> tuple[Model, list[str]]:
    """The recipe's model for these images, and what was decided for it, in sentences.

    The recipe's own values are obeyed. Where it leaves them open: as many classes and channels as the data has; the
    images' own size when they share a small one; a stem that steps by less, because the published step would leave
    nothing of a small image.
    """
    choice, notes, native = recipe.model, [], splits.native_size
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
        num_classes=len(splits.classes),
        in_chans=choice.in_chans or splits.channels,
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
