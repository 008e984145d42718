"""Everything random in a weight update follows from (seed, update, micro-batch, process).

So no generator's state is ever saved: a run that goes on draws what the unbroken run would have drawn, whatever
was drawn in between.
"""

from __future__ import annotations

import random

import numpy as np
import torch


def reseed(seed: int, update: int, micro_batch: int, rank: int) -> None:
    """Set python's, numpy's and torch's generators (all devices) before a micro-batch; dropout, drop path and
    mixing draw from them."""
    entropy = [seed % 2**64, update, micro_batch, rank]
    small, large = np.random.SeedSequence(entropy).generate_state(2, np.uint64).tolist()
    random.seed(large)
    np.random.seed(small % 2**32)
    torch.manual_seed(large % 2**63)
