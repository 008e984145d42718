"""A recipe and labeled images in; a classifier and loaders out."""

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
"""Images of one size up to this side are trained at their own size, unless the recipe has another."""


def make_loaders(recipe: Recipe, splits: Splits[int], model: Model, progress: Progress | None = None) -> Loaders:
    """The loaders of this process, with Mixup and CutMix where the recipe has them."""
    rank, world = processes()
    optimizer, augmentation, channels = recipe.optimizer, recipe.augmentation, model.spec.in_chans
    preprocessing, classes = model.preprocessing, len(splits.classes)
    count = len(splits.train) + len(splits.val)
    cached = cache_images(recipe.data, augmentation, count, preprocessing.size, channels)
    # cached images are transformed on the device itself, others by worker processes, which cannot use a GPU
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
    """The recipe's model for these images, and a note on each setting that was chosen automatically.

    Values in the recipe are used as they are. By default, the model gets the classes and channels of the data, the size
    of the images where they all share a small one, and a smaller stem stride for small images, which the published
    stride would reduce to a few tokens.
    """
    config, notes, native = recipe.model, [], splits.native_size
    base = spec or find(config.name).spec
    size = (config.img_size, config.img_size) if config.img_size else None
    stride = config.stem_stride
    if spec is None and size is None and native is not None and max(native) <= SMALL:
        size = native
        notes.append(f"input {size[0]} × {size[1]}: the images' own size")
        if recipe.augmentation.policy == "imagenet":
            notes.append("random crops remove most of such small images; --recipe small shifts them instead")
    if spec is None and stride is None:
        stride = stem_stride_for(base, size or base.img_size)
        if stride is not None:
            notes.append(f"stem stride {stride} instead of {base.stem_stride}: the input is small")
    reseed(recipe.seed, 0, 0, 0)  # the same initial weights in every process and every repetition
    model: Model = create_model(
        spec or config.name,
        pretrained=config.pretrained and config.weights is None,  # a recipe's weights file wins
        weights=config.weights,
        num_classes=len(splits.classes),
        in_chans=config.in_chans or splits.channels,
        img_size=size,
        drop_path_rate=config.drop_path_rate,
        drop_rate=config.drop_rate,
        mixers=None if config.mixers is None else list(config.mixers),
        stem_stride=stride,
    )
    crop = recipe.augmentation.crop
    if crop is None and native == model.preprocessing.size:
        crop = 1.0  # a crop of images that have the input's size already would enlarge them first
    if crop is not None:
        model.preprocessing = model.preprocessing.with_changes(crop=crop)
    return model, notes


def stem_stride_for(spec: AnySpec, size: tuple[int, int]) -> int | None:
    """The stem stride for images of ``size`` (height, width); None where the published one fits.

    For a model of four stages 1 up to 40 pixels and 2 up to 96; for a model of one stage, 8 patches per side.
    """
    published = spec.stem_stride
    if published is None:
        return None
    if len(spec.mixers) == 1:
        stride = max(1, min(size) // 8)
    else:
        # later stages halve the grid three times: 32 pixels become 4 × 4 tokens with stride 1, 1 × 1 with stride 4
        stride = 1 if min(size) <= 40 else 2 if min(size) <= 96 else published
    return stride if stride < published else None
