"""Pictures and a transform in, batches out: the same ones for the same (seed, epoch), from any batch on.

B is the size of one global micro-batch; process r of w gets slice r of every one, so that together they see exactly
what a single process sees.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator

from PIL import Image
from torch import Tensor

from ..errors import DataError
from ..types import Batch
from .order import epoch_order, generators_kept, share
from .samples import Parcel, Position, Samples
from .sets import Pictures
from .workers import Workers


class BadPictureWarning(UserWarning):
    """A picture could not be read during training and another took its place."""


class Loader:
    """Batches of one process. ``len`` is their number in an epoch.

    With ``shuffle`` (training) a last batch with fewer pictures than processes is dropped, so that every process has
    the same number of batches; without (evaluation) every picture comes exactly once over all processes, and some may
    have one batch less. ``workers`` processes read ahead; batches do not depend on their number.
    """

    def __init__(
        self,
        pictures: Pictures,
        transform: Callable[[Image.Image], Tensor],
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
    ) -> None:
        if batch_size < world:
            raise DataError(f"batch_size: expected a picture for each of {world} processes at least, got {batch_size}")
        least = batch_size if drop_last else world if shuffle else 1
        if len(pictures) < least:
            raise DataError(
                f"{len(pictures)} pictures do not make one batch of {batch_size} over {world} processes; "
                f"expected at least {least} pictures"
            )
        self.pictures = pictures
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank, self.world = rank, world
        self.drop_last = drop_last
        self._samples = Samples(pictures, transform, seed)
        self._workers = Workers(self._samples, workers) if workers else None
        self._named: set[str] = set()

    @property
    def global_batches(self) -> int:
        """Global micro-batches an epoch."""
        full, rest = divmod(len(self.pictures), self.batch_size)
        # a training batch that cannot give each process a picture would leave one waiting for the others
        keeps_rest = rest > 0 and not self.drop_last and (not self.shuffle or rest >= self.world)
        return full + keeps_rest

    def global_size(self, index: int) -> int:
        """Pictures in global micro-batch ``index``, over all processes: fewer than B only in the last one."""
        return min(self.batch_size, len(self.pictures) - index * self.batch_size)

    def __len__(self) -> int:
        count = self.global_batches
        last = share(self.global_size(count - 1), self.rank, self.world)
        return count - (last.start == last.stop)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch`` from number ``start`` on: images (B/w, C, H, W) float32, targets (B/w,) int64.

        Raises ``DataError`` with the path of an unreadable picture. With workers, one epoch is read at a time.
        """
        plan = self._positions(epoch, start)
        for parcel in self._workers.read(plan) if self._workers else self._here(plan):
            if parcel.failure:
                raise DataError(parcel.failure)
            self._warn(parcel.replaced)
            yield Batch(parcel.images, parcel.targets)

    def close(self) -> None:
        """End the worker processes; a later ``batches`` starts them again."""
        if self._workers:
            self._workers.close()

    def _positions(self, epoch: int, start: int) -> Iterator[list[Position]]:
        count = len(self.pictures)
        order = epoch_order(count, self.seed, epoch) if self.shuffle else range(count)
        for index in range(start, len(self)):
            part = share(self.global_size(index), self.rank, self.world)
            first = index * self.batch_size
            yield [(epoch, int(i)) for i in order[first + part.start : first + part.stop]]

    def _here(self, plan: Iterable[list[Position]]) -> Iterator[Parcel]:
        for positions in plan:
            with generators_kept():
                parcel = self._samples[positions]
            yield parcel

    def _warn(self, replaced: list[tuple[str, str]]) -> None:
        for name, told in replaced:
            if name not in self._named:
                self._named.add(name)
                warnings.warn(told, BadPictureWarning, stacklevel=3)
