"""Who carries jobs out on a Ray cluster: a task a run, with cores and a GPU of its own.

The cluster's machines need this library, Ray, and the images under the same name. They need no disk in common: where
the sweep's folder cannot be reached, a run is trained in a temporary one and gives back its small files. Such a run
has no state to go on from when it is stopped; it is begun again.
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
from ..run import folder as run_folder
from ..training.journal import METRICS
from .folder import PLAN, sweep_of
from .job import Job, Outcome, carried_out

LOCAL = "local"
STORE = 100_000_000
"""Bytes for the objects of a Ray of our own: what goes to and fro are a few kilobytes a run."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what a cluster says goes to its log files and not between our lines
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the behavior to come, without the warning that it will
}
ANSWER = 60
"""Seconds for a cluster to answer; Ray itself asks for minutes before it gives up."""
_KNOCK = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"
_SMALL = (METRICS, run_folder.EVALUATION, run_folder.CONFIG)
"""What the report reads of a run; config.json, which makes a folder a run's, comes last."""


class RayCrew:
    """Runs as tasks with ``threads`` cores each.

    Args:
        address: ``host:port`` of a cluster, ``auto`` for the one that this machine belongs to, ``local`` for one of
            our own on this machine.
        workers: runs at a time; as many as the cluster has room for when left out.
        threads: cores of a run.
        gpu: whether a run takes a GPU; left out, it does where the cluster has any.

    Raises:
        MissingExtraError: Ray is not installed.
        RunError: no cluster at this address, or none with room for a run.
    """

    where = "Ray"

    def __init__(self, address: str, workers: int | None = None, *, threads: int = 1, gpu: bool | None = False) -> None:
        self._ray = _imported()
        self._ours = not self._ray.is_initialized()
        if self._ours:
            _connect(self._ray, address, workers, threads, gpu)
        self._busy: dict[Any, Job] = {}
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if gpu is None:
            gpu = any(machine.get("GPU", 0) >= 1 for machine in machines)
        self._size = workers or sum(_room(machine, threads, gpu) for machine in machines)
        if not self._size:
            self.dismiss()
            raise RunError(
                f"--ray {address}: no machine of the cluster has what a run takes: {threads} cores"
                f"{' and a GPU' if gpu else ''}. Lower --machine.threads, or change --device"
            )
        # A dead run is begun again by the sweep, which counts and notes it. Ray's own retries are silent, and endless
        # where a run needs more memory than there is.
        self._task = self._ray.remote(num_cpus=threads, num_gpus=int(gpu), max_retries=0)(_carried_out)

    @property
    def size(self) -> int:
        """Runs that are carried out at once."""
        return self._size

    @property
    def busy(self) -> Sequence[Job]:
        """Jobs that are being carried out, or wait for their place on the cluster."""
        return list(self._busy.values())

    def begin(self, job: Job) -> None:
        """Hand a job to the cluster."""
        plan = Path(job.plan_file).read_text(encoding="utf-8")
        self._busy[self._task.remote(job.to_dict(), plan, _mark(job))] = job

    def outcomes(self, seconds: float) -> list[Outcome]:
        """What was finished meanwhile; a run whose process or machine is gone comes back as ``died``."""
        if not self._busy:
            return []
        done, _ = self._ray.wait(list(self._busy), timeout=seconds)
        return [self._outcome(task, self._busy.pop(task)) for task in done]

    def stop(self) -> None:
        """Interrupt the tasks: the trainer saves and leaves; those that wait for their place are called off."""
        for task in self._busy:
            self._ray.cancel(task)

    def dismiss(self) -> None:
        """End what is still at work, and our connection if we made it."""
        for task in self._busy:
            self._ray.cancel(task, force=True)
        self._busy = {}
        if self._ours:
            self._ray.shutdown()

    def _outcome(self, task: Any, job: Job) -> Outcome:
        errors = self._ray.exceptions
        try:
            told, files = self._ray.get(task)
        except errors.TaskCancelledError:
            return Outcome(run=job.run, event="stopped", reason="called off")
        except errors.RayTaskError as error:
            return Outcome(run=job.run, event="died", reason=f"{type(error.cause).__name__}: {error.cause}")
        except errors.RayError as error:
            return Outcome(run=job.run, event="died", reason=str(error).split(". ")[0])
        if files:
            _put(files, Path(job.folder))
        return Outcome.from_dict(told)


def _imported() -> Any:
    """Ray, told to be quiet before it reads its settings."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise MissingExtraError("--ray: Ray is not installed. pip install 'metaformer[ray]' brings it") from None
    return ray


def _connect(ray: Any, address: str, workers: int | None, threads: int, gpu: bool | None) -> None:
    own: dict[str, Any] = {}
    if address == LOCAL:
        own = {"num_cpus": workers * threads if workers else _cores(), "object_store_memory": STORE}
        own |= {"num_gpus": 0} if gpu is False else {}
    else:
        _expect_cluster(address)
    try:
        with _own_sigterm():
            ray.init(
                address=address,
                include_dashboard=False if own else None,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **own,
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(f"--ray {address}: {str(error).splitlines()[0]}") from None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _expect_cluster(address: str) -> None:
    """Ask in a process of its own whether a Ray is there: Ray insists for minutes, and talks meanwhile.

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
            raise RunError(f"{expected}; nothing answers there ({error})") from None
    try:
        knock = [sys.executable, "-c", _KNOCK, address]
        answer = subprocess.run(knock, timeout=ANSWER, capture_output=True, text=True, check=False)
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
def _own_sigterm() -> Iterator[None]:
    """Keep our answer to SIGTERM, which Ray replaces by one of its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _room(machine: Mapping[str, float], threads: int, gpu: bool) -> int:
    """Runs that a machine of the cluster can carry out at once."""
    by_cores = int(machine.get("CPU", 0) // threads)
    return min(by_cores, int(machine.get("GPU", 0))) if gpu else by_cores


def _carried_out(told: Mapping[str, Any], plan: str, mark: str) -> tuple[dict[str, Any], dict[str, str]]:
    """On the cluster: the job's outcome and, where the sweep's folder is not this disk's, the run's small files."""
    job = Job.from_dict(told)
    with TemporaryDirectory(prefix="metaformer-") as name:
        own = Path(name)
        job = job.with_changes(plan_file=str(_plan_file(Path(job.plan_file), plan, own)))
        if _mark(job) == mark:
            return carried_out(job).to_dict(), {}
        job = job.with_changes(folder=str(own / "run"))
        outcome = carried_out(job)
        settled = outcome.event in ("finished", "broke down")
        paths = [path for path in (own / "run" / name for name in _SMALL) if settled and path.is_file()]
        return outcome.to_dict(), {path.name: path.read_text(encoding="utf-8") for path in paths}


def _plan_file(path: Path, text: str, own: Path) -> Path:
    """The plan's file, which has the mixers that are Python objects; written anew where it is missing or another."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return path
    copy = own / path.name
    copy.write_text(text, encoding="utf-8")
    return copy


def _mark(job: Job) -> str:
    """Tells whether the job's sweep is on this disk: a folder of the same name may be there from another one."""
    path = sweep_of(Path(job.folder)) / PLAN
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _put(files: Mapping[str, str], folder: Path) -> None:
    """The files of a run that was trained elsewhere, in place of what an earlier attempt left here."""
    run_folder.RUN_FOLDER.clear(folder)
    for name, text in files.items():
        replace_file(folder / name, text.encode())
