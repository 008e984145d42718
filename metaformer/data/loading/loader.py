"""A dataset in, batches out: the same ones for the same (seed, epoch), from any batch on.

``Loader`` loads and transforms samples one at a time, for any dataset and transform. ``CachedLoader`` takes small
images from ``CachedImages`` and augments whole batches: loading single images is too slow to keep a small model busy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ...errors import DataError
from ...recipe import Augmentation
from ...types import Batch, Preprocessing
from ..dataset import Dataset, Progress
from ..transforms.batch import BatchAugment
from ..transforms.image import Normalize, OnInput, evaluation_transform, training_preprocessing, training_transform
from .cached_images import CachedImages
from .samples import BatchBuilder, Collate, SamplePosition, Transform, UnreadableSample, WorkerBatch, stack
from .schedule import BatchSchedule
from .seeding import preserved_generators
from .workers import Workers


class BadImageWarning(UserWarning):
    """An image could not be read during training or evaluation; another took its place, or it was left out."""


class Loader:
    """The batches of one process, loaded sample by sample.

    Args:
        dataset: where the samples come from.
        transform: a sample to a model's input and target.
        schedule: which samples make up which batch.
        collate: ``stack`` for tensors with a batch axis, ``as_lists`` where samples differ in size.
        replace: whether the next readable sample takes the place of an unreadable one that may be skipped; it is left
            out of its batch otherwise, which may then be empty.
        workers: processes that load ahead; the batches do not depend on their number.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Transform,
        schedule: BatchSchedule,
        *,
        collate: Collate = stack,
        replace: bool = True,
        workers: int = 0,
    ) -> None:
        self.dataset, self.schedule = dataset, schedule
        self._builder = BatchBuilder(dataset, transform, seed=schedule.seed, collate=collate, replace=replace)
        self._workers = Workers(self._builder, workers) if workers else None
        self._warned: set[str] = set()

    def __len__(self) -> int:
        return len(self.schedule)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch`` from number ``start`` on.

        Raises ``DataError`` with the path of an unreadable image. With workers, one epoch is read at a time.
        """
        micro_batches = self.schedule.batches(epoch, start)
        positions = ([(epoch, int(i)) for i in micro_batch.indices] for micro_batch in micro_batches)
        for built in self._workers.read(positions) if self._workers else self._build(positions):
            if built.failure:
                raise DataError(built.failure)
            _warn(built.unreadable, self._warned)
            yield Batch(built.inputs, built.targets, built.mask)

    def close(self) -> None:
        """End the worker processes; a later ``batches`` starts them again."""
        if self._workers:
            self._workers.close()

    def _build(self, positions: Iterable[list[SamplePosition]]) -> Iterator[WorkerBatch]:
        for one in positions:
            # not around the yield: what the consumer draws between two batches must stay drawn
            with preserved_generators():
                built = self._builder[one]
            yield built


class CachedLoader:
    """The batches of one process from images in memory, on their device, augmented as a whole.

    Without ``augment`` the batches are those of ``Loader``, bit for bit. ``normalize`` turns bytes (B, C, H, W) into
    float32.
    """

    def __init__(
        self,
        cache: CachedImages,
        normalize: Callable[[Tensor], Tensor],
        schedule: BatchSchedule,
        augment: BatchAugment | None = None,
    ) -> None:
        self.cache, self.normalize, self.schedule, self.augment = cache, normalize, schedule, augment
        self._warned: set[str] = set()

    def __len__(self) -> int:
        return len(self.schedule)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch`` from number ``start`` on: inputs (B/w, C, H, W) float32, targets (B/w,) int64."""
        pixels, labels = self.cache.pixels, self.cache.labels
        count, _, height, width = pixels.shape
        seed = self.schedule.seed
        augment = self.augment.of_epoch(seed, epoch, count, (height, width)) if self.augment else None
        for micro_batch in self.schedule.batches(epoch, start):
            _warn(self.cache.unreadable_among(micro_batch.indices), self._warned)
            indices = torch.from_numpy(micro_batch.indices).to(pixels.device)
            if augment is None:
                images = self.normalize(pixels[indices])
            else:
                # erasing comes last because its noise is normal, as after normalization
                images = augment.erase(self.normalize(augment.shift_and_flip(pixels, micro_batch)), micro_batch)
            yield Batch(images, labels[indices])

    def close(self) -> None:
        """There are no worker processes to end."""


def training_loader(
    dataset: Dataset[int],
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    channels: int,
    schedule: BatchSchedule,
    *,
    cache: bool = False,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
) -> Loader | CachedLoader:
    """Images with a class each, augmented as ``augmentation`` says, in batches of tensors.

    With ``cache`` they come from memory on ``device`` and are augmented in batches: by the same distribution, with
    other draws. ``workers`` is for images that are loaded one at a time, ``progress`` for filling the cache.
    """
    if not cache:
        transform = OnInput(training_transform(preprocessing, augmentation, channels))
        return Loader(dataset, transform, schedule, workers=workers)
    images = CachedImages.of(dataset, training_preprocessing(preprocessing, augmentation), channels, device, progress)
    return CachedLoader(images, Normalize.of(preprocessing, channels, device), schedule, BatchAugment.of(augmentation))


def evaluation_loader(
    dataset: Dataset[int],
    preprocessing: Preprocessing,
    channels: int,
    schedule: BatchSchedule,
    *,
    cache: bool = False,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
) -> Loader | CachedLoader:
    """Images with a class each as the model is evaluated on them; with and without ``cache`` the same bits."""
    if not cache:
        transform = OnInput(evaluation_transform(preprocessing, channels))
        return Loader(dataset, transform, schedule, workers=workers)
    images = CachedImages.of(dataset, preprocessing, channels, device, progress)
    return CachedLoader(images, Normalize.of(preprocessing, channels, device), schedule)


def _warn(unreadable: Iterable[UnreadableSample], warned: set[str]) -> None:
    """Warn of each unreadable image once a loader, whatever the number of epochs."""
    for name, message in unreadable:
        if name not in warned:
            warned.add(name)
            warnings.warn(message, BadImageWarning, stacklevel=3)  # the line that iterates over the batches
