"""Who carries jobs out: processes of this machine here, a Ray cluster in ``ray_crew``.

A worker carries out one job after another in one process, so that torch is imported and the images are decoded once.
It dies with the process that started it: a killed sweep leaves nobody behind who writes into its folder.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from . import fork_server
from .job import Job, Outcome


class Crew(Protocol):
    """What a sweep wants of those who work for it."""

    where: str
    """In the report: ``this machine`` or ``Ray``."""

    @property
    def size(self) -> int:
        """Jobs that can be carried out at once."""

    @property
    def busy(self) -> Sequence[Job]:
        """Jobs that are being carried out."""

    def begin(self, job: Job) -> None:
        """Give a job to somebody idle."""

    def outcomes(self, seconds: float) -> list[Outcome]:
        """What was finished meanwhile; waits ``seconds`` at most for the first one."""

    def stop(self) -> None:
        """Ask everybody to save their state and stop; the outcomes say so."""

    def dismiss(self) -> None:
        """End everything."""


@dataclass
class _Worker:
    process: Any
    wire: Connection
    job: Job | None = None


class Processes:
    """``count`` processes of this machine, each with ``devices[i]`` as its only GPU where there are GPUs."""

    where = "this machine"

    def __init__(self, count: int, devices: Sequence[int] = ()) -> None:
        self._context = fork_server.context()
        self._devices = list(devices)
        self._workers = [self._hired(i) for i in range(count)]

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self._workers)

    @property
    def busy(self) -> list[Job]:
        """Jobs that are being carried out."""
        return [worker.job for worker in self._workers if worker.job is not None]

    def begin(self, job: Job) -> None:
        """Give a job to an idle worker."""
        worker = next(worker for worker in self._workers if worker.job is None)
        worker.job = job
        with suppress(OSError):  # it died while idle; ``outcomes`` finds out
            worker.wire.send(job.to_dict())

    def outcomes(self, seconds: float) -> list[Outcome]:
        """What was finished meanwhile; a worker that died is replaced, and its job comes back as ``died``."""
        told = wait([worker.wire for worker in self._workers], timeout=seconds)
        heard = [self._heard(i) for i, worker in enumerate(self._workers) if worker.wire in told]
        return [outcome for outcome in heard if outcome is not None]

    def stop(self) -> None:
        """SIGTERM to everybody at work: the trainer saves and leaves."""
        for worker in self._workers:
            if worker.job is not None and worker.process.is_alive():
                worker.process.terminate()

    def dismiss(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.wire.close()
            worker.process.join(timeout=1 if worker.job is None else 0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _hired(self, index: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        device = self._devices[index % len(self._devices)] if self._devices else None
        process = self._context.Process(target=_work, args=(theirs, device))
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _heard(self, index: int) -> Outcome | None:
        worker = self._workers[index]
        try:
            outcome = Outcome.from_dict(worker.wire.recv())
        except (EOFError, OSError):
            return self._buried(index)
        worker.job = None
        return outcome

    def _buried(self, index: int) -> Outcome | None:
        """Replace a dead worker; what its job came to, if it had one."""
        worker = self._workers[index]
        worker.wire.close()
        worker.process.join()
        self._workers[index] = self._hired(index)
        if worker.job is None:
            return None
        return Outcome(run=worker.job.run, event="died", reason=_death(worker.process.exitcode))


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
    return f"its process ended with status {code}"


def _work(wire: Connection, device: int | None) -> None:
    """A worker's life: jobs in, outcomes out, until nobody is at the other end of the wire."""
    from .job import carried_out

    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's, which then asks by SIGTERM
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(device)
    while True:
        try:
            job = Job.from_dict(wire.recv())
        except (EOFError, OSError):
            return
        wire.send(carried_out(job).to_dict())


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
