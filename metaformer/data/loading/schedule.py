"""Which images make up which batch: a pure function of (seed, epoch), from any batch on.

B is the size of one global micro-batch. Process r of w gets slice r of every global micro-batch, so that together they
see exactly what a single process sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np

from ...errors import DataError
from .seeding import epoch_order, rank_slice


@dataclass(frozen=True)
class MicroBatch:
    """One process's part of one global micro-batch."""

    number: int
    """Of the micro-batch in its epoch; the first is 0."""
    all_indices: np.ndarray
    """The images of the micro-batch over all processes, int64."""
    part: slice
    """The positions of this process in ``all_indices``."""

    @property
    def indices(self) -> np.ndarray:
        """The images of this process."""
        return self.all_indices[self.part]


@dataclass(frozen=True)
class BatchSchedule:
    """The batches of one process. ``len`` is their number in an epoch.

    With ``shuffle`` (training) a last batch with fewer images than processes is dropped, so that every process has
    the same number of batches; without (evaluation) every image comes exactly once over all processes, and some may
    have one batch less.

    Raises:
        DataError: too few images for one batch, or a batch smaller than the number of processes.
    """

    count: int
    """Images of the dataset."""
    batch_size: int
    """B, over all processes."""
    _: KW_ONLY
    seed: int = 0
    shuffle: bool = False
    rank: int = 0
    world: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        size, world = self.batch_size, self.world
        if size < world:
            raise DataError(f"batch_size: expected at least one image for each of {world} processes, got {size}")
        least = size if self.drop_last else world if self.shuffle else 1
        if self.count < least:
            raise DataError(
                f"{self.count} images do not make one batch of {size} over {world} processes; "
                f"expected at least {least} images"
            )

    @property
    def global_batches(self) -> int:
        """Global micro-batches an epoch."""
        full, rest = divmod(self.count, self.batch_size)
        # a training batch without an image for some process would leave the others waiting for its gradients
        keeps_rest = rest > 0 and not self.drop_last and (not self.shuffle or rest >= self.world)
        return full + keeps_rest

    def global_size(self, number: int) -> int:
        """Images in global micro-batch ``number``, over all processes: fewer than B only in the last one."""
        return min(self.batch_size, self.count - number * self.batch_size)

    def __len__(self) -> int:
        count = self.global_batches
        last = rank_slice(self.global_size(count - 1), self.rank, self.world)
        return count - int(last.start == last.stop)

    def batches(self, epoch: int, start: int = 0) -> Iterator[MicroBatch]:
        """The micro-batches of ``epoch`` from number ``start`` on."""
        order = epoch_order(self.count, self.seed, epoch) if self.shuffle else np.arange(self.count)
        for number in range(start, len(self)):
            first, size = number * self.batch_size, self.global_size(number)
            yield MicroBatch(number, order[first : first + size], rank_slice(size, self.rank, self.world))
