"""A set of images kept decoded: read once, cut to the model's input, as bytes in one tensor.

Small images cost more to read than a small model takes to learn from them. N images, C channels.
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
from ..sets import LabeledImages, Progress
from ..transforms.image import fixed_steps, pixels_of
from .samples import readable
from .seeding import generators_kept

ROOM = 2 * 1024**3
"""Bytes of images that are kept without being asked for. A constant and not the memory that happens to be free: a
run that goes on elsewhere must decide as it did before, because the two ways draw differently."""


def kept_in_memory(
    choice: DataConfig, augmentation: Augmentation, images: int, size: tuple[int, int], channels: int
) -> bool:
    """Whether so many images (training and evaluation together) of an input's ``size`` are kept in memory.

    Raises ``DataError`` where that was asked for and the policy varies images one at a time.
    """
    in_batches = varied_in_batches(augmentation)
    if choice.memory == "always" and not in_batches:
        raise DataError(
            "data.memory: expected 'auto' or 'never' with this augmentation, got 'always'. Images kept in memory "
            "are varied in batches, which is possible with augmentation.policy 'none', and with 'small' without "
            f"auto_augment and color_jitter; here policy is {augmentation.policy!r}, auto_augment "
            f"{augmentation.auto_augment!r}, color_jitter {augmentation.color_jitter!r}"
        )
    fits = images * channels * size[0] * size[1] <= ROOM
    return choice.memory == "always" or (choice.memory == "auto" and in_batches and fits)


def varied_in_batches(augmentation: Augmentation) -> bool:
    """Whether nothing random happens to an image before it has the input's size, nor to its colors."""
    plain = not augmentation.auto_augment and augmentation.color_jitter is None
    return augmentation.policy == "none" or (augmentation.policy == "small" and plain)


@dataclass(frozen=True, eq=False)
class CachedImages:
    """Images as the model's input sees them, before they are normalized. ``len`` is N."""

    pixels: Tensor
    """(N, C, H, W) uint8."""
    labels: Tensor
    """(N,) int64, beside the pixels."""
    replaced: dict[int, list[tuple[str, str]]]
    """At the index of an image that is another in truth: the name of each unreadable one, and what to say of it."""

    def __len__(self) -> int:
        return len(self.pixels)

    @classmethod
    def of(
        cls,
        images: LabeledImages,
        preprocessing: Preprocessing,
        channels: int,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> CachedImages:
        """The images cut as ``preprocessing`` says, on ``device``; read once a process and shared by all its runs.

        Raises ``DataError`` with the path of an unreadable image, where those are not to be replaced.
        """
        device = torch.empty(0, device=device).device  # "cuda" and "cuda:0" are one place
        if id(images) not in _KEPT:
            # by identity, because records that compare by content cannot be keys; forgotten with the images
            _KEPT[id(images)] = {}
            weakref.finalize(images, _KEPT.pop, id(images), None)
        kept = _KEPT[id(images)]
        key = (preprocessing.size, preprocessing.crop, preprocessing.interpolation, channels, device)
        if key not in kept:
            kept[key] = _read(images, preprocessing, channels, device, progress)
        return kept[key]

    def replaced_among(self, indices: np.ndarray) -> list[tuple[str, str]]:
        """What is to be said of the images at ``indices``."""
        return [told for i in indices for told in self.replaced.get(int(i), ())] if self.replaced else []


_KEPT: dict[int, dict[Any, CachedImages]] = {}


def _read(
    images: LabeledImages, preprocessing: Preprocessing, channels: int, device: torch.device, progress: Progress | None
) -> CachedImages:
    steps, count = Compose([*fixed_steps(preprocessing, channels), pixels_of]), len(images)
    pixels = torch.empty(count, channels, *preprocessing.size, dtype=torch.uint8)
    labels = torch.empty(count, dtype=torch.int64)
    replaced: dict[int, list[tuple[str, str]]] = {}
    with generators_kept():
        for index in range(count):
            told: list[tuple[str, str]] = []
            image, used = readable(images, index, told)
            pixels[index], labels[index] = steps(image), images.labels[used]
            if told:
                replaced[index] = told
            if progress and ((index + 1) % 256 == 0 or index + 1 == count):
                progress("reading images into memory", index + 1, count)
    return CachedImages(pixels.to(device), labels.to(device), replaced)
