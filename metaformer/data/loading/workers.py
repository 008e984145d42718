"""Plans of batches in, batches out, made ahead of time by processes of torch's DataLoader."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from .samples import Parcel, Parcels, Position

HELD = {signal.SIGINT, signal.SIGTERM}


class Workers:
    """``count`` processes that stay alive between epochs, begun at the first ``read`` and ended by ``close``."""

    def __init__(self, parcels: Parcels, count: int) -> None:
        self.parcels = parcels
        self.count = count
        self._plan = _Plan()
        self._loader: DataLoader[Parcel] | None = None
        self._reader: Any = None
        self._latest: object = None

    def read(self, plan: Iterable[list[Position]]) -> Iterator[Parcel]:
        """The batches of ``plan`` in its order. One plan is read at a time; a new one ends the one before."""
        self._plan.positions = plan
        mine = self._latest = object()
        for parcel in self._begun():
            yield parcel
            if self._latest is not mine:
                raise RuntimeError("the workers were closed or have begun another epoch; read one epoch at a time")

    def close(self) -> None:
        """End the processes; a later ``read`` begins new ones."""
        if self._reader is not None:
            self._reader._shutdown_workers()  # torch has no public word for it and waits for the last reference
        self._loader = self._reader = self._latest = None

    def _begun(self) -> Iterator[Parcel]:
        if self._loader is not None:
            return iter(self._loader)  # the same reader and processes, begun again
        self._loader = DataLoader(
            self.parcels,
            sampler=self._plan,
            batch_size=None,  # a whole batch is one item, so that it is made where its images are read
            collate_fn=_as_it_is,
            num_workers=self.count,
            persistent_workers=True,
            worker_init_fn=_outlive_signals,
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )
        with _signals_held():
            self._reader = iter(self._loader)
        # after torch's own hooks, so before them at exit: they would wait for processes nobody has told to end
        atexit.register(_close, weakref.ref(self))
        return self._reader


def _close(reference: weakref.ref[Workers]) -> None:
    workers = reference()
    if workers is not None:
        workers.close()


class _Plan(Sampler[list[Position]]):
    """Hands the epoch at hand to torch's loader."""

    positions: Iterable[list[Position]] = ()

    def __init__(self) -> None:
        pass

    def __iter__(self) -> Iterator[list[Position]]:
        return iter(self.positions)


def _as_it_is(parcel: Any) -> Any:
    return parcel


@contextmanager
def _signals_held() -> Iterator[None]:
    """A process begun meanwhile holds signals back as well, until ``_outlive_signals`` has said what they mean."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _outlive_signals(_worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach the whole process group; the training process is to save first.

    A worker that died at once would take the training process with it. It waits half a minute, then goes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(30))
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
