"""Lists of sample positions in, batches out, built ahead of time by the processes of torch's DataLoader."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from .samples import BatchBuilder, SamplePosition, WorkerBatch

BLOCKED = {signal.SIGINT, signal.SIGTERM}

Positions = Sequence[SamplePosition]


class Workers:
    """``count`` processes that are started by the first ``read``, stay alive between epochs and end with ``close``."""

    def __init__(self, builder: BatchBuilder, count: int) -> None:
        self.builder = builder
        self.count = count
        self._sampler = _EpochSampler()
        self._loader: DataLoader[WorkerBatch] | None = None
        self._iterator: Any = None
        self._current: object = None

    def read(self, positions: Iterable[Positions]) -> Iterator[WorkerBatch]:
        """The batches of these positions, in order. One epoch is read at a time; a new one ends the one before."""
        self._sampler.positions = positions
        mine = self._current = object()
        for batch in self._start():
            yield batch
            if self._current is not mine:
                raise RuntimeError("the workers were closed or have begun another epoch; read one epoch at a time")

    def close(self) -> None:
        """End the processes; a later ``read`` starts new ones."""
        if self._iterator is not None:
            # torch has no public way and would wait until the last reference to the iterator is gone
            self._iterator._shutdown_workers()
        self._loader = self._iterator = self._current = None

    def _start(self) -> Iterator[WorkerBatch]:
        if self._loader is not None:
            return iter(self._loader)  # the same iterator and processes, reset by persistent_workers
        self._loader = DataLoader(
            self.builder,
            sampler=self._sampler,
            batch_size=None,  # a whole batch is one item, so that it is collated where its samples are loaded
            collate_fn=_identity,
            num_workers=self.count,
            persistent_workers=True,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),  # else each epoch would draw a base seed from the global generator
        )
        with _blocked_signals():
            self._iterator = iter(self._loader)
        # Exit hooks run in the reverse order. torch registered its own when it was imported, and it would wait for
        # processes that have not been asked to end.
        atexit.register(_close, weakref.ref(self))
        return self._iterator


def _close(reference: weakref.ref[Workers]) -> None:
    workers = reference()
    if workers is not None:
        workers.close()


class _EpochSampler(Sampler[Positions]):
    """Gives torch's loader the positions of the current epoch."""

    positions: Iterable[Positions] = ()

    def __init__(self) -> None:
        pass

    def __iter__(self) -> Iterator[Positions]:
        return iter(self.positions)


def _identity(batch: Any) -> Any:
    return batch


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block signals while processes start: they inherit the mask, until ``_ignore_signals`` has set the handlers."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_signals(_worker: int) -> None:
    """Survive Ctrl-C and a scheduler's SIGTERM, which reach the whole process group.

    The training process saves its state first, and torch would end it as soon as one of its workers dies. After
    SIGTERM a worker waits for half a minute and then ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(30))
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
