"""Everything random about reading images, as pure functions: the order of an epoch, and the draws of one image.

The order follows from (seed, epoch), an image's variation from (seed, epoch, index), and nothing else: neither from
the number of processes, nor from what was read before. That is what makes stopping and resuming exact.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

import numpy as np
import torch


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The indices 0 to ``count - 1`` in the order of this epoch, int64."""
    # NumPy keeps the legacy generator's stream as it is, so an order survives NumPy's releases
    return np.random.RandomState(np.random.MT19937(_entropy(seed, epoch))).permutation(count)


def epoch_draws(purpose: str, seed: int, epoch: int) -> np.random.RandomState:
    """A generator of one epoch for all images at once, of its own for each ``purpose``."""
    return np.random.RandomState(np.random.MT19937(_entropy(seed, epoch, _number(purpose))))


def noise_generator(seed: int, epoch: int, batch: int) -> torch.Generator:
    """A generator on the CPU for the noise of one global micro-batch."""
    (state,) = _entropy(seed, epoch, _number("noise"), batch).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


def share(total: int, rank: int, world: int) -> slice:
    """The part of ``total`` things in a row that process ``rank`` of ``world`` gets; sizes differ by one at most."""
    return slice(total * rank // world, total * (rank + 1) // world)


def seed_sample(seed: int, epoch: int, index: int) -> None:
    """Set the generators of python, NumPy and torch's CPU for one image; timm's transforms draw from all three."""
    for_python, for_numpy, for_torch = _entropy(seed, epoch, index).generate_state(3, np.uint64)
    random.seed(int(for_python))
    np.random.seed(int(for_numpy) % 2**32)
    torch.default_generator.manual_seed(int(for_torch) >> 1)  # the CPU's alone: a GPU's stream is not ours


@contextmanager
def generators_kept() -> Iterator[None]:
    """Whatever happens inside, python's, NumPy's and torch's CPU generators go on afterwards as if it had not."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _number(purpose: str) -> int:
    """Far above the index of any image, whose own draws would else be the same."""
    return crc32(purpose.encode()) + 2**32


def _entropy(seed: int, *position: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed % 2**64, *position])
