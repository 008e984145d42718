"""Images in, batches out: the same ones for the same (seed, epoch), from any batch on.

``Loader`` reads and varies images one at a time, as any transform wants it. ``MemoryLoader`` takes them from a
``CachedImages`` and varies whole batches, which small models on small images need to be kept busy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...errors import DataError
from ...recipe import Augmentation
from ...types import Batch, Preprocessing
from ..sets import LabeledImages, Progress
from ..transforms.batch import Variation
from ..transforms.image import Transform, evaluation_transform, normalized, training_cut, training_transform
from .cached_images import CachedImages
from .samples import Parcel, Parcels, Position, Samples
from .schedule import Plan
from .seeding import generators_kept
from .workers import Workers


class BadImageWarning(UserWarning):
    """An image could not be read during training and another took its place."""


class ParcelLoader:
    """Batches of one process, as its ``Plan`` has them, made by ``parcels``.

    ``workers`` processes read ahead; batches do not depend on their number.
    """

    def __init__(self, parcels: Parcels, plan: Plan, workers: int = 0) -> None:
        self.plan = plan
        self._parcels = parcels
        self._workers = Workers(parcels, workers) if workers else None
        self._named: set[str] = set()

    def __len__(self) -> int:
        return len(self.plan)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch`` from number ``start`` on.

        Raises ``DataError`` with the path of an unreadable image. With workers, one epoch is read at a time.
        """
        positions = ([(epoch, int(i)) for i in share.indices] for share in self.plan.shares(epoch, start))
        for parcel in self._workers.read(positions) if self._workers else self._here(positions):
            if parcel.failure:
                raise DataError(parcel.failure)
            _warn(parcel.replaced, self._named)
            yield Batch(parcel.images, parcel.targets)

    def close(self) -> None:
        """End the worker processes; a later ``batches`` starts them again."""
        if self._workers:
            self._workers.close()

    def _here(self, plan: Iterable[list[Position]]) -> Iterator[Parcel]:
        for positions in plan:
            with generators_kept():
                parcel = self._parcels[positions]
            yield parcel


class Loader(ParcelLoader):
    """Batches of images with a class each: images (B/w, C, H, W) float32, targets (B/w,) int64.

    ``plan`` is the ``Plan``'s: ``shuffle``, and ``rank``, ``world`` and ``drop_last`` where they are not its own.
    """

    def __init__(
        self,
        images: LabeledImages,
        transform: Callable[[Image.Image], Tensor],
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        **plan: Any,
    ) -> None:
        whole = Plan(count=len(images), batch_size=batch_size, seed=seed, **plan)
        super().__init__(Samples(images, transform, seed), whole, workers)
        self.images = images


class MemoryLoader:
    """Batches of one process, on the memory's device, varied whole; nothing is read after the memory is built.

    Without a ``variation`` they are ``Loader``'s to the last bit. ``normalize`` turns bytes (B, C, H, W) to float32;
    ``plan`` is as for ``Loader``.
    """

    def __init__(
        self,
        memory: CachedImages,
        normalize: Callable[[Tensor], Tensor],
        *,
        variation: Variation | None = None,
        batch_size: int,
        seed: int,
        **plan: Any,
    ) -> None:
        self.plan = Plan(count=len(memory), batch_size=batch_size, seed=seed, **plan)
        self.memory, self.normalize, self.variation = memory, normalize, variation
        self._named: set[str] = set()

    def __len__(self) -> int:
        return len(self.plan)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch`` from number ``start`` on: images (B/w, C, H, W) float32, targets (B/w,) int64."""
        pixels, labels = self.memory.pixels, self.memory.labels
        count, _, *size = pixels.shape
        vary = self.variation.of_epoch(self.plan.seed, epoch, count, (size[0], size[1])) if self.variation else None
        for share in self.plan.shares(epoch, start):
            _warn(self.memory.replaced_among(share.indices), self._named)
            indices = torch.from_numpy(share.indices).to(pixels.device)
            if vary is None:
                images = self.normalize(pixels[indices])
            else:
                images = vary.erased(self.normalize(vary.moved(pixels, share)), share)
            yield Batch(images, labels[indices])

    def close(self) -> None:
        """Nothing is open."""


def evaluation_loader(
    images: LabeledImages,
    preprocessing: Preprocessing,
    channels: int,
    *,
    memory: bool = False,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
    **plan: Any,
) -> Loader | MemoryLoader:
    """Every image once, in the set's order, as the model is to be judged on it.

    ``memory`` decides where they come from, ``device`` where that memory lies; the bits are the same. ``plan`` is the
    ``batch_size``, and ``rank`` and ``world`` where there are several processes.
    """
    plan = {"seed": 0, "shuffle": False, **plan}
    if not memory:
        return Loader(images, evaluation_transform(preprocessing, channels), workers=workers, **plan)
    kept = CachedImages.of(images, preprocessing, channels, device, progress)
    return MemoryLoader(kept, normalized(preprocessing, channels, device), **plan)


def training_loader(
    images: LabeledImages,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    channels: int,
    *,
    memory: bool = False,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
    **plan: Any,
) -> Loader | MemoryLoader:
    """Images in a new order every epoch, varied as ``augmentation`` says. ``plan`` as above, and the ``seed``.

    From ``memory`` they are varied in batches: by the same law, with other draws.
    """
    plan = {"shuffle": True, **plan}
    if not memory:
        transform: Transform = training_transform(preprocessing, augmentation, channels)
        return Loader(images, transform, workers=workers, **plan)
    kept = CachedImages.of(images, training_cut(preprocessing, augmentation), channels, device, progress)
    variation = Variation.of(augmentation)
    return MemoryLoader(kept, normalized(preprocessing, channels, device), variation=variation, **plan)


def _warn(replaced: Iterable[tuple[str, str]], named: set[str]) -> None:
    """Say of each unreadable image once what happened to it."""
    for name, told in replaced:
        if name not in named:
            named.add(name)
            warnings.warn(told, BadImageWarning, stacklevel=3)
