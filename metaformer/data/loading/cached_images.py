"""A dataset of small images kept in memory: decoded once, at the model's input size, as bytes in one tensor.

Reading a small image takes longer than a small model needs to learn from it. N images, C channels.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import Compose

from ...errors import DataError
from ...recipe import Augmentation, DataConfig
from ...types import Preprocessing
from ..dataset import Dataset, Progress
from ..transforms.image import resize_steps, to_bytes
from .samples import UnreadableSample, load_or_replace
from .seeding import preserved_generators

CACHE_LIMIT = 2 * 1024**3
"""Bytes of images that ``memory="auto"`` keeps. A constant, and not the memory that is free at the moment: a run that
is resumed on another machine must decide as it did before, because the two ways draw different random numbers."""


def cache_images(config: DataConfig, augmentation: Augmentation, count: int, size: tuple[int, int], chans: int) -> bool:
    """Whether ``count`` images (training and validation together) of an input ``size`` are kept in memory.

    Raises ``DataError`` where ``memory="always"`` and the augmentation works on single images only.
    """
    in_batches = works_in_batches(augmentation)
    if config.memory == "always" and not in_batches:
        raise DataError(
            "data.memory: expected 'auto' or 'never' with this augmentation, got 'always'. Images in memory are "
            "augmented in batches, which is possible with augmentation.policy 'none', and with 'small' without "
            f"auto_augment and color_jitter; here policy is {augmentation.policy!r}, auto_augment "
            f"{augmentation.auto_augment!r}, color_jitter {augmentation.color_jitter!r}"
        )
    fits = count * chans * size[0] * size[1] <= CACHE_LIMIT
    return config.memory == "always" or (config.memory == "auto" and in_batches and fits)


def works_in_batches(augmentation: Augmentation) -> bool:
    """Whether the policy has no random step before an image has the input's size, and none for its colors."""
    without_colors = not augmentation.auto_augment and augmentation.color_jitter is None
    return augmentation.policy == "none" or (augmentation.policy == "small" and without_colors)


@dataclass(frozen=True, eq=False)
class CachedImages:
    """Images at the model's input size, before they are normalized. ``len`` is N."""

    pixels: Tensor
    """(N, C, H, W) uint8."""
    labels: Tensor
    """(N,) int64, on the same device."""
    unreadable: dict[int, list[UnreadableSample]]
    """By index: the unreadable images whose place the one at this index took."""

    def __len__(self) -> int:
        return len(self.pixels)

    @classmethod
    def of(
        cls,
        dataset: Dataset[int],
        preprocessing: Preprocessing,
        channels: int,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> CachedImages:
        """The images resized and cropped as ``preprocessing`` says, on ``device``.

        They are read once a process and shared by all its runs, as in an ablation. Raises ``DataError`` with the path
        of an unreadable image, where those must not be replaced.
        """
        device = torch.empty(0, device=device).device  # "cuda" and "cuda:0" are the same device
        if id(dataset) not in _CACHES:
            # by identity: a dataset is compared by its content and cannot be hashed. The entry goes with the dataset.
            _CACHES[id(dataset)] = {}
            weakref.finalize(dataset, _CACHES.pop, id(dataset), None)
        caches = _CACHES[id(dataset)]
        key = (preprocessing.size, preprocessing.crop, preprocessing.interpolation, channels, device)
        if key not in caches:
            caches[key] = _read(dataset, preprocessing, channels, device, progress)
        return caches[key]

    def unreadable_among(self, indices: np.ndarray) -> list[UnreadableSample]:
        """The unreadable images that others stand in for at ``indices``."""
        return [one for i in indices for one in self.unreadable.get(int(i), ())] if self.unreadable else []


_CACHES: dict[int, dict[tuple[Any, ...], CachedImages]] = {}


def _read(
    dataset: Dataset[int], preprocessing: Preprocessing, channels: int, device: torch.device, progress: Progress | None
) -> CachedImages:
    resize, count = Compose([*resize_steps(preprocessing, channels), to_bytes]), len(dataset)
    pixels = torch.empty(count, channels, *preprocessing.size, dtype=torch.uint8)
    labels = torch.empty(count, dtype=torch.int64)
    unreadable: dict[int, list[UnreadableSample]] = {}
    with preserved_generators():  # a user's dataset may draw
        for index in range(count):
            skipped: list[UnreadableSample] = []
            sample = load_or_replace(dataset, index, skipped)
            pixels[index], labels[index] = resize(sample.input), sample.target
            if skipped:
                unreadable[index] = skipped
            if progress and ((index + 1) % 256 == 0 or index + 1 == count):
                progress("reading images into memory", index + 1, count)
    return CachedImages(pixels.to(device), labels.to(device), unreadable)
