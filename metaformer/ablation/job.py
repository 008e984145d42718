"""One run of a sweep, as a record that can be sent to another process or machine, and its result.

The run is an ordinary training run in an ordinary run folder.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from ..data.dataset import Splits
from ..errors import DivergedError, InputError, RunError
from ..recipe import DataConfig, Recipe
from ..records import Record
from ..run.config import RunConfig
from ..run.folder import RUN_FOLDER
from ..run.recipes import run_file
from ..spec.mixer import MixerSpec
from ..spec.model import AnySpec
from ..tasks.task import task_named
from .lock import locked

LOCK_TIMEOUT = 60.0
"""Seconds to wait for a process that still holds the run's folder. One that a killed sweep left behind ends soon."""


@dataclass(frozen=True, kw_only=True)
class Job(Record):
    """A variant with a seed."""

    run: str
    """``VARIANT/seed-N``: its name in the journal."""
    title: str
    """The variant's name."""
    folder: str
    """Where the run is written."""
    spec: AnySpec
    """The whole model; mixers that are Python objects are kept by name."""
    recipe: Recipe
    """The whole recipe, with the seed."""
    plan_file: str
    """The Python file that defines those mixers."""
    command: str = ""
    """Kept in the run's config.json."""


@dataclass(frozen=True, kw_only=True)
class JobResult(Record):
    """How a job ended."""

    run: str
    """The job's."""
    event: Literal["finished", "diverged", "stopped", "failed", "crashed", "died"]
    """``stopped``: with its state saved; ``failed``: by an input that cannot be used; ``crashed``: Python code raised;
    ``died``: the process is gone."""
    reason: str = ""
    """Why, in a sentence; empty if it finished."""
    seconds: float = 0.0
    """Wall time in the worker."""


def run_job(job: Job) -> JobResult:
    """Train in the job's folder, or continue the training there."""
    from ..training.interrupt import RunInterrupted

    began = time.perf_counter()

    def result(event: Literal["finished", "diverged", "stopped", "failed", "crashed"], reason: str = "") -> JobResult:
        return JobResult(run=job.run, event=event, reason=reason, seconds=time.perf_counter() - began)

    try:
        with locked(Path(job.folder), "another process is training here", LOCK_TIMEOUT):
            _train(job)
    except DivergedError as error:
        return result("diverged", str(error).split(". ")[0].removeprefix("training stopped: "))
    except InputError as error:
        return result("failed", str(error))
    except RunInterrupted:
        return result("stopped", "its state is saved")
    except KeyboardInterrupt:
        return result("stopped", "before or after its updates")
    except Exception as error:  # a mixer of the plan's own may raise anything, and the other variants can still run
        traceback.print_exc()
        line = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(line.filename).name}, line {line.lineno}"
        return result("crashed", f"{type(error).__name__}: {error} ({where})")
    return result("finished")


def _train(job: Job) -> None:
    from ..run.train import train

    folder = Path(job.folder)
    resume = True
    try:
        RunConfig.read(folder)
    except RunError:
        resume = False
        RUN_FOLDER.clear(folder)  # files of a run that lost its config.json cannot be continued
    train(
        job.recipe,
        folder,
        resume=resume,
        command=job.command,
        spec=_with_python_mixers(job),
        splits=_open_data(job.recipe.task, job.recipe.data),
        evaluated="last",
        title=job.title,
        page=False,
        console=Console(quiet=True),
    )


@lru_cache(maxsize=1)
def _open_data(task: str, data: DataConfig) -> Splits[Any]:
    """The data, opened once for all runs of a process."""
    return task_named(task).open(data)


def _with_python_mixers(job: Job) -> AnySpec:
    """The job's model with the Python objects of the plan's file in place of their names."""
    from ..weights.description import PYTHON_MIXER

    names = [
        str(mixer.args.get("name")) if isinstance(mixer, MixerSpec) and mixer.name == PYTHON_MIXER else None
        for mixer in job.spec.mixers
    ]
    if not any(names):
        return job.spec
    plan = run_file(Path(job.plan_file))
    mixers = [
        mixer if name is None else getattr(plan, name) for name, mixer in zip(names, job.spec.mixers, strict=True)
    ]
    return job.spec.with_mixers(mixers)
