"""Runs the jobs on a Ray cluster: a task per run, with cores and a GPU of its own.

The cluster's machines need this library, Ray, and the images at the same path. They need no shared disk: where the
sweep's folder cannot be reached, a run is trained in a temporary folder and returns its small files. Such a run has no
saved state when it is stopped, and is started over.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import MissingExtraError, RunError
from ..files import replace_file
from ..run.config import CONFIG
from ..run.folder import EVALUATION, RUN_FOLDER
from ..training.journal import METRICS
from .folder import PLAN, SETTLED, sweep_of
from .job import Job, JobResult, run_job

LOCAL = "local"
OBJECT_STORE_BYTES = 100_000_000
"""Of a Ray that is started here. Jobs and results are a few kilobytes, and Ray would reserve 30 % of the memory."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no usage report to Ray's makers
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # the cluster's messages go to its log files and not between our lines
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future behavior, without the warning about it
}
PROBE_TIMEOUT = 60
"""Seconds for a cluster to answer. Ray itself retries for minutes before it gives up."""
_PROBE = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"
_RETURNED_FILES = (METRICS, EVALUATION, CONFIG)
"""What the report reads of a run. config.json comes last, because it makes a folder a run's."""


class RayExecutor:
    """Runs as Ray tasks with ``threads`` cores each.

    Args:
        address: ``host:port`` of a cluster, ``auto`` for the one that this machine belongs to, ``local`` for a new one
            on this machine.
        workers: runs at a time; if left out, as many as the cluster has room for.
        threads: cores of a run.
        gpu: whether a run takes a GPU; None takes one where the cluster has any.

    Raises:
        MissingExtraError: Ray is not installed.
        RunError: no cluster at this address, or none with room for a run.
    """

    where = "Ray"

    def __init__(self, address: str, workers: int | None = None, *, threads: int = 1, gpu: bool | None = False) -> None:
        self._ray = _import_ray()
        self._owns_connection = not self._ray.is_initialized()
        if self._owns_connection:
            _connect(self._ray, address, workers, threads, gpu)
        self._running: dict[Any, Job] = {}
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if gpu is None:
            gpu = any(machine.get("GPU", 0) >= 1 for machine in machines)
        self._size = workers or sum(_capacity(machine, threads, gpu) for machine in machines)
        if not self._size:
            self.shutdown()
            raise RunError(
                f"--ray {address}: no machine of the cluster has what a run needs: {threads} cores"
                f"{' and a GPU' if gpu else ''}. Lower --machine.threads, or change --device"
            )
        # The sweep restarts a dead run, counts the attempts and logs them. Ray's own retries are silent, and endless
        # where a run needs more memory than there is.
        self._task = self._ray.remote(num_cpus=threads, num_gpus=int(gpu), max_retries=0)(_run_remotely)

    @property
    def size(self) -> int:
        """Runs at a time."""
        return self._size

    @property
    def running(self) -> Sequence[Job]:
        """Jobs that are running or queued on the cluster."""
        return list(self._running.values())

    def submit(self, job: Job) -> None:
        """Submit a job to the cluster."""
        plan = Path(job.plan_file).read_text(encoding="utf-8")
        self._running[self._task.remote(job.to_dict(), plan, _plan_digest(job))] = job

    def results(self, timeout: float) -> list[JobResult]:
        """Results that are ready; a run whose process or machine is gone has the result ``died``."""
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), timeout=timeout)
        return [self._result(task, self._running.pop(task)) for task in done]

    def stop(self) -> None:
        """Interrupt the running tasks, on which the trainer saves and stops, and cancel the queued ones."""
        for task in self._running:
            self._ray.cancel(task)

    def shutdown(self) -> None:
        """End what is still running, and the connection if it was made here."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running = {}
        if self._owns_connection:
            self._ray.shutdown()

    def _result(self, task: Any, job: Job) -> JobResult:
        errors = self._ray.exceptions
        try:
            result, files = self._ray.get(task)
        except errors.TaskCancelledError:
            return JobResult(run=job.run, event="stopped", reason="canceled")
        except errors.RayTaskError as error:
            return JobResult(run=job.run, event="died", reason=f"{type(error.cause).__name__}: {error.cause}")
        except errors.RayError as error:
            return JobResult(run=job.run, event="died", reason=str(error).split(". ")[0])
        if files:
            _write_returned(files, Path(job.folder))
        return JobResult.from_dict(result)


def _import_ray() -> Any:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)  # Ray reads them when it is imported
    try:
        import ray
    except ImportError:
        raise MissingExtraError("--ray: Ray is not installed. pip install 'metaformer[ray]' brings it") from None
    return ray


def _connect(ray: Any, address: str, workers: int | None, threads: int, gpu: bool | None) -> None:
    own: dict[str, Any] = {}
    if address == LOCAL:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        own = {"num_cpus": workers * threads if workers else cores, "object_store_memory": OBJECT_STORE_BYTES}
        own |= {"num_gpus": 0} if gpu is False else {}
    else:
        _expect_cluster(address)
    try:
        with _keep_sigterm_handler():
            ray.init(
                address=address,
                include_dashboard=False if own else None,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **own,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(f"--ray {address}: {str(error).splitlines()[0]}") from None


def _expect_cluster(address: str) -> None:
    """Check in another process whether a Ray is there: Ray retries for minutes, and prints meanwhile.

    Raises:
        RunError: there is none.
    """
    expected = f"--ray {address}: expected 'local', 'auto' or the HOST:PORT that `ray start --head` prints (port 6379)"
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or "/" in address:
            raise RunError(f"{expected}. A Ray client's ray:// address will not do: start the sweep on the cluster")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise RunError(f"{expected}; no connection ({error})") from None
    try:
        probe = [sys.executable, "-c", _PROBE, address]
        answer = subprocess.run(probe, timeout=PROBE_TIMEOUT, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        raise RunError(f"{expected}; no Ray answers there") from None
    if "Unauthenticated" in answer.stderr:
        raise RunError(
            f"--ray {address}: the cluster asks for a token. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to what its "
            "owner gave you"
        )
    if answer.returncode:
        raise RunError(f"{expected}; no Ray of this version answers there")


@contextmanager
def _keep_sigterm_handler() -> Iterator[None]:
    """Restore our SIGTERM handler, which ``ray.init`` replaces by one that exits at once."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _capacity(machine: Mapping[str, float], threads: int, gpu: bool) -> int:
    """Runs that a machine of the cluster has room for."""
    by_cores = int(machine.get("CPU", 0) // threads)
    return min(by_cores, int(machine.get("GPU", 0))) if gpu else by_cores


def _run_remotely(fields: Mapping[str, Any], plan: str, digest: str) -> tuple[dict[str, Any], dict[str, str]]:
    """On the cluster: the job's result and, where the sweep's folder is on another disk, the run's small files.

    Args:
        fields: the job as plain data.
        plan: the content of the plan's file, which defines mixers that are Python objects.
        digest: ``_plan_digest`` where the sweep runs.
    """
    job = Job.from_dict(fields)
    with TemporaryDirectory(prefix="metaformer-") as name:
        temporary, path = Path(name), Path(job.plan_file)
        if not path.is_file() or path.read_text(encoding="utf-8") != plan:
            path = temporary / path.name
            path.write_text(plan, encoding="utf-8")
        job = job.with_changes(plan_file=str(path))
        if _plan_digest(job) == digest:
            return run_job(job).to_dict(), {}
        run = temporary / "run"
        result = run_job(job.with_changes(folder=str(run)))
        kept = [run / name for name in _RETURNED_FILES if result.event in SETTLED and (run / name).is_file()]
        return result.to_dict(), {path.name: path.read_text(encoding="utf-8") for path in kept}


def _plan_digest(job: Job) -> str:
    """Tells whether the job's sweep is on this disk: a folder of the same name may hold another one."""
    path = sweep_of(Path(job.folder)) / PLAN
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _write_returned(files: Mapping[str, str], folder: Path) -> None:
    """Write the files of a run that was trained elsewhere, in place of what an earlier attempt left here."""
    RUN_FOLDER.clear(folder)
    for name, text in files.items():
        replace_file(folder / name, text.encode())
