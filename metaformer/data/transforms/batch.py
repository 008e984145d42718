"""Whole batches of kept images, varied at once: the policy ``small`` of ``transforms.py`` by the same law.

An image's draws stand in a table of its epoch that follows from (seed, epoch), at the image's index; the noise of
an erased patch follows from (seed, epoch, micro-batch, place in it). So neither the number of processes nor the batch
at which an epoch is taken up again changes a bit. B images of a batch, N of the set.
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
from ..loading.schedule import Share
from ..loading.seeding import epoch_draws, noise_generator

_ATTEMPTS = 10
_AREA = (0.02, 1 / 3)
_LOG_ASPECT = (log(0.3), log(1 / 0.3))
"""How random erasing looks for a patch, as timm's does ("Random Erasing Data Augmentation", section 3)."""


@dataclass(frozen=True)
class Variation:
    """What happens to an image that has the input's size already: shift and flip, then erase."""

    flip: float
    """Probability of a left-right flip."""
    erase: float
    """Probability that a patch is replaced by noise."""

    @classmethod
    def of(cls, augmentation: Augmentation) -> Variation | None:
        """That of a policy; None where it leaves images as they are."""
        return None if augmentation.policy == "none" else cls(augmentation.hflip, augmentation.erase)

    def of_epoch(self, seed: int, epoch: int, count: int, size: tuple[int, int]) -> EpochVariation:
        """The same with the draws of ``epoch`` for ``count`` images of ``size`` (height, width)."""
        return EpochVariation(self, seed, epoch, count, size)


@dataclass(frozen=True)
class EpochVariation:
    """A variation whose draws are fixed: every image's shift, flip and patch of one epoch."""

    variation: Variation
    seed: int
    epoch: int
    count: int
    """N."""
    size: tuple[int, int]
    """H and W."""

    def moved(self, pixels: Tensor, share: Share) -> Tensor:
        """Stored bytes (N, C, H, W) to those of ``share`` (B, C, H, W): shifted on black by up to an eighth, flipped.

        One gather from the images in their black frame: a row and a column of it for each of the new image.
        """
        (height, width), drawn = self.size, self._shifts[share.indices]
        down, across = height // 8, width // 8
        rows = np.arange(height) + _between(drawn[:, :1], 0, 2 * down)
        columns = np.arange(width) + _between(drawn[:, 1:2], 0, 2 * across)
        columns = np.where(drawn[:, 2:] < self.variation.flip, columns[:, ::-1], columns)
        places = torch.from_numpy(rows[:, :, None] * (width + 2 * across) + columns[:, None])
        chosen = pixels[torch.from_numpy(share.indices).to(pixels.device)]
        framed = F.pad(chosen, (across, across, down, down)).flatten(2)
        places = places.to(pixels.device).flatten(1)[:, None].expand(-1, pixels.shape[1], -1)
        return framed.gather(2, places).view_as(chosen)

    def erased(self, images: Tensor, share: Share) -> Tensor:
        """Normalized images (B, C, H, W), changed in place: normal noise in the patches of those that are erased."""
        if self.variation.erase == 0:
            return images
        which = (self._patches[1, share.everyone] > 0).nonzero()[0]
        # drawn for all processes and on the CPU, so that each takes its part of the same noise
        generator = noise_generator(self.seed, self.epoch, share.number)
        noise = torch.randn(len(which), *images.shape[1:], generator=generator)
        mine = (which >= share.part.start) & (which < share.part.stop)
        top, bottom, left, right = self._patches[:, share.everyone[which[mine]], None]
        rows, columns = np.arange(self.size[0]), np.arange(self.size[1])
        down, across = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
        patch, places = (
            torch.from_numpy(down[:, None, :, None] & across[:, None, None, :]),
            which[mine] - share.part.start,
        )
        here, at = images.device, torch.from_numpy(places).to(images.device)
        images[at] = torch.where(patch.to(here), noise[torch.from_numpy(mine)].to(here), images[at])
        return images

    @cached_property
    def _shifts(self) -> np.ndarray:
        """(N, 3) in [0, 1): down, across, flip."""
        return epoch_draws("shift", self.seed, self.epoch).random_sample((self.count, 3))

    @cached_property
    def _patches(self) -> np.ndarray:
        """(4, N): first and last row, first and last column of each image's patch; the last ones are not in it."""
        draws, (height, width) = epoch_draws("erase", self.seed, self.epoch), self.size
        found = np.zeros((4, self.count), np.int64)
        open_ = draws.random_sample(self.count) < self.variation.erase
        for _ in range(_ATTEMPTS):
            area, aspect, down, across = draws.random_sample((4, self.count))
            area = (_AREA[0] + area * (_AREA[1] - _AREA[0])) * height * width
            aspect = np.exp(_LOG_ASPECT[0] + aspect * (_LOG_ASPECT[1] - _LOG_ASPECT[0]))
            rows, columns = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
            fits = open_ & (rows < height) & (columns < width)
            top, left = _between(down, 0, height - rows), _between(across, 0, width - columns)
            found[:, fits] = np.stack([top, top + rows, left, left + columns])[:, fits]
            open_ &= ~fits
        return found


def _between(drawn: np.ndarray, low: int, high: int | np.ndarray) -> np.ndarray:
    """Draws in [0, 1) as whole numbers from ``low`` to ``high``, both included."""
    return np.floor(low + drawn * (high - low + 1)).astype(np.int64)
