"""Positions in, one made-up batch out: reading, varying and stacking, in the training process or in a worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import DataError, InputError
from ..decode import UnreadableImage
from ..sets import LabeledImages
from .seeding import seed_sample

_Loaded = TypeVar("_Loaded", covariant=True)

Position = tuple[int, int]
"""An epoch and the index of an image: all that decides a training sample."""


@dataclass
class Parcel:
    """What a worker sends: a batch, or the words of a failure."""

    images: Any
    """(B, C, H, W), or a list of images where they differ in size."""
    targets: Any
    """(B,), or a list."""
    replaced: list[tuple[str, str]]
    """The name of each unreadable image, and what to say of it."""
    failure: str = ""


class Parcels(ABC, Dataset[Parcel]):
    """Makes one parcel of positions, in the training process or in a worker."""

    def __getitem__(self, positions: list[Position]) -> Parcel:
        try:
            return self.packed(positions)
        except InputError as error:  # an exception would reach the training process wrapped in a worker's traceback
            return Parcel(torch.empty(0), torch.empty(0), [], failure=str(error))

    @abstractmethod
    def packed(self, positions: list[Position]) -> Parcel:
        """The batch of these positions; raises ``InputError``."""


class Samples(Parcels):
    """Reads, varies and stacks images that have a class each."""

    def __init__(self, images: LabeledImages, transform: Callable[[Image.Image], Tensor], seed: int) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed

    def packed(self, positions: list[Position]) -> Parcel:
        """Images (B, C, H, W) and class indices (B,)."""
        replaced: list[tuple[str, str]] = []
        samples = [self._sample(epoch, index, replaced) for epoch, index in positions]
        images = torch.stack([image for image, _ in samples])
        return Parcel(images, torch.tensor([label for _, label in samples]), replaced)

    def _sample(self, epoch: int, index: int, replaced: list[tuple[str, str]]) -> tuple[Tensor, int]:
        image, used = readable(self.images, index, replaced)
        seed_sample(self.seed, epoch, index)
        return self.transform(image), self.images.labels[used]


class Readable(Protocol, Generic[_Loaded]):
    """What can be read one by one: images, or images with what is known of them."""

    @property
    def skips_bad(self) -> bool:
        """Whether one that turns out unreadable may be passed over."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> _Loaded:
        """Raises ``UnreadableImage``."""


def readable(images: Readable[_Loaded], index: int, replaced: list[tuple[str, str]]) -> tuple[_Loaded, int]:
    """The image at ``index``, or where that may be skipped the next readable one, with the index used.

    Those that were passed over are added to ``replaced``: a name, and what to say. Raises ``DataError``.
    """
    for step in range(len(images)):
        used = (index + step) % len(images)
        try:
            return images.load(used), used
        except UnreadableImage as error:
            if not images.skips_bad:
                raise refused(error) from None
            replaced.append((error.name, f"{error}; the next image takes its place"))
    raise DataError("not one image of the set is readable")


def refused(error: UnreadableImage) -> DataError:
    """What to say where an image that may not be left out turns out unreadable."""
    return DataError(f"{error}. Repair or remove it, or leave such files out with --data.on-bad-image skip")
