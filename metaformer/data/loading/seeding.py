"""Everything random about loading data, as pure functions: the order of an epoch, and the draws for one image.

The order depends on (seed, epoch) and the augmentation of an image on (seed, epoch, index) only: not on the number of
processes or workers, and not on what was loaded before. This makes resuming exact.

All generators are NumPy's legacy ``RandomState`` over ``MT19937``. NumPy guarantees that its stream never changes (NEP
19), which it does not for ``default_rng``, so runs can be resumed and repeated with later releases.
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
    return np.random.RandomState(np.random.MT19937(_entropy(seed, epoch))).permutation(count)


def epoch_generator(purpose: str, seed: int, epoch: int) -> np.random.RandomState:
    """A generator that draws for all images of one epoch at once; each ``purpose`` has its own."""
    return np.random.RandomState(np.random.MT19937(_entropy(seed, epoch, _purpose_number(purpose))))


def noise_generator(seed: int, epoch: int, batch: int) -> torch.Generator:
    """A generator on the CPU for the noise of one global micro-batch."""
    (state,) = _entropy(seed, epoch, _purpose_number("noise"), batch).generate_state(1, np.uint64)
    # 63 bits are positive whether torch reads them as a signed or as an unsigned number
    return torch.Generator().manual_seed(int(state) >> 1)


def rank_slice(total: int, rank: int, world: int) -> slice:
    """The part of ``total`` consecutive items that process ``rank`` of ``world`` gets; sizes differ by one at most."""
    return slice(total * rank // world, total * (rank + 1) // world)


def seed_sample(seed: int, epoch: int, index: int) -> None:
    """Seed the global generators of Python, NumPy and torch's CPU for one image: timm's transforms use all three."""
    for_python, for_numpy, for_torch = _entropy(seed, epoch, index).generate_state(3, np.uint64)
    random.seed(int(for_python))
    np.random.seed(int(for_numpy) % 2**32)  # the most that it takes
    # torch.manual_seed would seed every GPU as well, and dropout draws from those
    torch.default_generator.manual_seed(int(for_torch) >> 1)


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch's CPU afterwards.

    Batches that are built in the training process would otherwise change the draws of the model's dropout.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _purpose_number(purpose: str) -> int:
    # above 2**32 and so above the index of any image, whose own entropy would be the same otherwise
    return crc32(purpose.encode()) + 2**32


def _entropy(seed: int, *position: int) -> np.random.SeedSequence:
    # SeedSequence takes no negative numbers
    return np.random.SeedSequence([seed % 2**64, *position])
