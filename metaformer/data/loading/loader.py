"""Pictures in, batches out: the same ones for the same (seed, epoch), from any batch on.

``Loader`` reads and varies pictures one at a time, as any transform wants it. ``MemoryLoader`` takes them from a
``PictureMemory`` and varies whole batches, which small models on small pictures need to be kept busy.
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
from ..sets import Pictures, Progress
from ..transforms.batch import Variation
from ..transforms.image import Transform, evaluation_transform, normalised, training_cut, training_transform
from .cached_images import PictureMemory
from .samples import Parcel, Parcels, Position, Samples
from .schedule import Plan
from .seeding import generators_kept
from .workers import Workers


class BadPictureWarning(UserWarning):
    """A picture could not be read during training and another took its place."""


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

        Raises ``DataError`` with the path of an unreadable picture. With workers, one epoch is read at a time.
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
    """Batches of pictures with a class each: images (B/w, C, H, W) float32, targets (B/w,) int64.

    ``plan`` is the ``Plan``'s: ``shuffle``, and ``rank``, ``world`` and ``drop_last`` where they are not its own.
    """

    def __init__(
        self,
        pictures: Pictures,
        transform: Callable[[Image.Image], Tensor],
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        **plan: Any,
    ) -> None:
        whole = Plan(count=len(pictures), batch_size=batch_size, seed=seed, **plan)
        super().__init__(Samples(pictures, transform, seed), whole, workers)
        self.pictures = pictures


class MemoryLoader:
    """Batches of one process, on the memory's device, varied whole; nothing is read after the memory is built.

    Without a ``variation`` they are ``Loader``'s to the last bit. ``normalise`` turns bytes (B, C, H, W) to float32;
    ``plan`` is as for ``Loader``.
    """

    def __init__(
        self,
        memory: PictureMemory,
        normalise: Callable[[Tensor], Tensor],
        *,
        variation: Variation | None = None,
        batch_size: int,
        seed: int,
        **plan: Any,
    ) -> None:
        self.plan = Plan(count=len(memory), batch_size=batch_size, seed=seed, **plan)
        self.memory, self.normalise, self.variation = memory, normalise, variation
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
                images = self.normalise(pixels[indices])
            else:
                images = vary.erased(self.normalise(vary.moved(pixels, share)), share)
            yield Batch(images, labels[indices])

    def close(self) -> None:
        """Nothing is open."""


def evaluation_loader(
    pictures: Pictures,
    preprocessing: Preprocessing,
    channels: int,
    *,
    memory: bool = False,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
    **plan: Any,
) -> Loader | MemoryLoader:
    """Every picture once, in the set's order, as the model is to be judged on it.

    ``memory`` decides where they come from, ``device`` where that memory lies; the bits are the same. ``plan`` is the
    ``batch_size``, and ``rank`` and ``world`` where there are several processes.
    """
    plan = {"seed": 0, "shuffle": False, **plan}
    if not memory:
        return Loader(pictures, evaluation_transform(preprocessing, channels), workers=workers, **plan)
    kept = PictureMemory.of(pictures, preprocessing, channels, device, progress)
    return MemoryLoader(kept, normalised(preprocessing, channels, device), **plan)


def training_loader(
    pictures: Pictures,
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
    """Pictures in a new order every epoch, varied as ``augmentation`` says. ``plan`` as above, and the ``seed``.

    From ``memory`` they are varied in batches: by the same law, with other draws.
    """
    plan = {"shuffle": True, **plan}
    if not memory:
        transform: Transform = training_transform(preprocessing, augmentation, channels)
        return Loader(pictures, transform, workers=workers, **plan)
    kept = PictureMemory.of(pictures, training_cut(preprocessing, augmentation), channels, device, progress)
    variation = Variation.of(augmentation)
    return MemoryLoader(kept, normalised(preprocessing, channels, device), variation=variation, **plan)


def _warn(replaced: Iterable[tuple[str, str]], named: set[str]) -> None:
    """Say of each unreadable picture once what happened to it."""
    for name, told in replaced:
        if name not in named:
            named.add(name)
            warnings.warn(told, BadPictureWarning, stacklevel=3)
