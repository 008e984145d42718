"""Augmentation of whole batches of cached images: the policy ``small`` of ``image.py``, by the same distribution.

The draws for an image stand in a table of the epoch, at the image's index; the table depends on (seed, epoch). The
noise of an erased patch depends on (seed, epoch, micro-batch, position in it). So neither the number of processes nor
the batch at which an epoch is resumed changes a bit. B images of a batch, N of the dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...recipe import Augmentation
from ..loading.schedule import MicroBatch
from ..loading.seeding import epoch_generator, noise_generator

# timm's RandomErasing ("Random Erasing Data Augmentation", section 3): ten attempts to find a patch that fits into the
# image, with this share of its area and this aspect
_ATTEMPTS = 10
_AREA = (0.02, 1 / 3)
_LOG_ASPECT = (log(0.3), log(1 / 0.3))


@dataclass(frozen=True)
class BatchAugment:
    """What happens to an image that already has the input's size: shift and flip, then erase."""

    flip: float
    """Probability of a left-right flip."""
    erase: float
    """Probability that a patch is replaced by noise."""

    @classmethod
    def of(cls, augmentation: Augmentation) -> BatchAugment | None:
        """That of a policy; None where it leaves images as they are."""
        return None if augmentation.policy == "none" else cls(augmentation.hflip, augmentation.erase)

    def of_epoch(self, seed: int, epoch: int, count: int, size: tuple[int, int]) -> EpochAugment:
        """The same with the draws of ``epoch`` for ``count`` images of ``size`` (height, width)."""
        return EpochAugment(self, seed, epoch, count, size)


@dataclass(frozen=True)
class EpochAugment:
    """An augmentation with its draws: the shift, flip and patch of every image in one epoch."""

    rates: BatchAugment
    seed: int
    epoch: int
    count: int
    """N."""
    size: tuple[int, int]
    """H and W."""

    def shift_and_flip(self, pixels: Tensor, batch: MicroBatch) -> Tensor:
        """All bytes (N, C, H, W) to those of ``batch`` (B, C, H, W): shifted on black by up to an eighth, flipped.

        One gather from the padded images, by a row and a column index for each pixel of the new image.
        """
        (height, width), drawn = self.size, self._shifts[batch.indices]
        down, across = height // 8, width // 8
        rows = np.arange(height) + _integers(drawn[:, :1], 0, 2 * down)
        columns = np.arange(width) + _integers(drawn[:, 1:2], 0, 2 * across)
        columns = np.where(drawn[:, 2:] < self.rates.flip, columns[:, ::-1], columns)
        places = torch.from_numpy(rows[:, :, None] * (width + 2 * across) + columns[:, None])
        chosen = pixels[torch.from_numpy(batch.indices).to(pixels.device)]
        padded = F.pad(chosen, (across, across, down, down)).flatten(2)
        places = places.to(pixels.device).flatten(1)[:, None].expand(-1, pixels.shape[1], -1)
        return padded.gather(2, places).view_as(chosen)

    def erase(self, images: Tensor, batch: MicroBatch) -> Tensor:
        """Normalized images (B, C, H, W), changed in place: normal noise in the patches of those that are erased."""
        if self.rates.erase == 0:
            return images
        erased = (self._patches[1, batch.all_indices] > 0).nonzero()[0]
        # drawn for all processes, and on the CPU, so that every process takes its part of the same noise
        generator = noise_generator(self.seed, self.epoch, batch.number)
        noise = torch.randn(len(erased), *images.shape[1:], generator=generator)
        mine = (erased >= batch.part.start) & (erased < batch.part.stop)
        top, bottom, left, right = self._patches[:, batch.all_indices[erased[mine]], None]
        rows, columns = np.arange(self.size[0]), np.arange(self.size[1])
        down, across = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
        device = images.device
        patch = torch.from_numpy(down[:, None, :, None] & across[:, None, None, :]).to(device)
        at = torch.from_numpy(erased[mine] - batch.part.start).to(device)
        images[at] = torch.where(patch, noise[torch.from_numpy(mine)].to(device), images[at])
        return images

    @cached_property
    def _shifts(self) -> np.ndarray:
        """(N, 3) in [0, 1): down, across, flip."""
        return epoch_generator("shift", self.seed, self.epoch).random_sample((self.count, 3))

    @cached_property
    def _patches(self) -> np.ndarray:
        """(4, N): first and last row, first and last column of each image's patch; the last ones are outside."""
        generator, (height, width) = epoch_generator("erase", self.seed, self.epoch), self.size
        patches = np.zeros((4, self.count), np.int64)
        pending = generator.random_sample(self.count) < self.rates.erase
        for _ in range(_ATTEMPTS):
            # drawn for all images, also for those that have a patch, so that each keeps its own draws
            area, aspect, down, across = generator.random_sample((4, self.count))
            area = (_AREA[0] + area * (_AREA[1] - _AREA[0])) * height * width
            aspect = np.exp(_LOG_ASPECT[0] + aspect * (_LOG_ASPECT[1] - _LOG_ASPECT[0]))
            rows, columns = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
            fits = pending & (rows < height) & (columns < width)
            top, left = _integers(down, 0, height - rows), _integers(across, 0, width - columns)
            patches[:, fits] = np.stack([top, top + rows, left, left + columns])[:, fits]
            pending &= ~fits
        return patches


def _integers(drawn: np.ndarray, low: int, high: int | np.ndarray) -> np.ndarray:
    """Draws in [0, 1) as integers from ``low`` to ``high``, both included."""
    return np.floor(low + drawn * (high - low + 1)).astype(np.int64)
