"""What runs the jobs: processes of this machine here, a Ray cluster in ``ray_executor``.

A worker process runs one job after another, so that torch is imported and the images are decoded once. It ends with
the process that started it: a killed sweep leaves no worker behind that writes into its folder.
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
from multiprocessing.process import BaseProcess
from typing import Protocol

from . import fork_server
from .job import Job, JobResult, run_job


class Executor(Protocol):
    """What a sweep needs of whatever runs its jobs."""

    where: str
    """In the report: ``this machine`` or ``Ray``."""

    @property
    def size(self) -> int:
        """Jobs that can run at once."""

    @property
    def running(self) -> Sequence[Job]:
        """Jobs that were submitted and have no result yet."""

    def submit(self, job: Job) -> None:
        """Start a job; at most ``size`` may be running."""

    def results(self, timeout: float) -> list[JobResult]:
        """Results that are ready; waits up to ``timeout`` seconds for the first one."""

    def stop(self) -> None:
        """Ask all running jobs to save their state and stop; their results say so."""

    def shutdown(self) -> None:
        """End everything."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: Job | None = None


class ProcessExecutor:
    """``count`` processes of this machine, each with ``devices[i]`` as its only GPU if there are GPUs.

    ``task`` names what they will train, so that its modules are imported once for all of them.
    """

    where = "this machine"

    def __init__(self, count: int, devices: Sequence[int] = (), task: str | None = None) -> None:
        self._context = fork_server.context(task)
        self._devices = list(devices)
        self._workers = [self._start_worker(i) for i in range(count)]

    @property
    def size(self) -> int:
        """How many processes there are."""
        return len(self._workers)

    @property
    def running(self) -> list[Job]:
        """Jobs that have no result yet."""
        return [worker.job for worker in self._workers if worker.job is not None]

    def submit(self, job: Job) -> None:
        """Send a job to an idle worker."""
        worker = next(worker for worker in self._workers if worker.job is None)
        worker.job = job
        with suppress(OSError):  # the worker died while idle; ``results`` finds out and replaces it
            worker.connection.send(job.to_dict())

    def results(self, timeout: float) -> list[JobResult]:
        """Results that are ready; a worker that died is replaced, and its job's result is ``died``."""
        ready = wait([worker.connection for worker in self._workers], timeout=timeout)
        received = [self._receive(i) for i, worker in enumerate(self._workers) if worker.connection in ready]
        return [result for result in received if result is not None]

    def stop(self) -> None:
        """Send SIGTERM to all busy workers, on which the trainer saves and stops."""
        for worker in self._workers:
            if worker.job is not None and worker.process.is_alive():
                worker.process.terminate()

    def shutdown(self) -> None:
        """End all processes; an idle one has a second to end by itself."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.join(timeout=1 if worker.job is None else 0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _start_worker(self, index: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        device = self._devices[index % len(self._devices)] if self._devices else None
        process = self._context.Process(target=_worker_loop, args=(theirs, device))
        process.start()
        theirs.close()  # so that our end reports the worker's death: no other process may hold its end open
        return _Worker(process, ours)

    def _receive(self, index: int) -> JobResult | None:
        """A worker's result. A dead worker is replaced; it has no result if it was idle."""
        worker = self._workers[index]
        try:
            result = JobResult.from_dict(worker.connection.recv())
        except (EOFError, OSError):
            worker.connection.close()
            worker.process.join()
            self._workers[index] = self._start_worker(index)
            if worker.job is None:
                return None
            return JobResult(run=worker.job.run, event="died", reason=_exit_reason(worker.process.exitcode))
        worker.job = None
        return result


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
    return f"its process ended with status {code}"


def _worker_loop(connection: Connection, device: int | None) -> None:
    """Run jobs until the pipe closes."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the sweep passes it on as SIGTERM
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(device)
    while True:
        try:
            job = Job.from_dict(connection.recv())
        except (EOFError, OSError):
            return
        connection.send(run_job(job).to_dict())


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
