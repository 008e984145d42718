"""Random numbers of a weight update depend on (seed, update, micro-batch, process) only.

So no generator state is saved: a resumed run draws the same numbers as an uninterrupted one, whatever was drawn in
between.
"""

from __future__ import annotations

import random

import numpy as np
import torch


def reseed(seed: int, update: int, micro_batch: int, rank: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators (of all devices) before a micro-batch. Dropout, drop path and
    Mixup draw from them."""
    entropy = [seed % 2**64, update, micro_batch, rank]  # SeedSequence takes no negative numbers
    # a hash, so that neighboring seeds and updates get unrelated streams
    small, large = np.random.SeedSequence(entropy).generate_state(2, np.uint64).tolist()
    random.seed(large)
    np.random.seed(small % 2**32)  # NumPy's global generator takes 32 bits
    torch.manual_seed(large % 2**63)
