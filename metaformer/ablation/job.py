"""One run of a sweep, as something that can be sent to another process or machine, and what came of it.

The run is an ordinary training run in an ordinary run folder. This side of the sweep is the only one that needs torch.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console

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

PATIENCE = 60.0
"""Seconds that a run waits for a process that still holds its folder: one that a killed sweep left behind ends soon."""


@dataclass(frozen=True, kw_only=True)
class Job(Record):
    """A row of a plan with a seed."""

    run: str
    """``ROW/seed-N``: its name in the journal."""
    title: str
    """The row's name."""
    folder: str
    """Where the run is written."""
    spec: AnySpec
    """The whole model; mixers that are Python objects are named only."""
    recipe: Recipe
    """The whole recipe, with the seed."""
    plan_file: str
    """Where such mixers are found again."""
    command: str = ""
    """Kept in the run's config.json."""


@dataclass(frozen=True, kw_only=True)
class Outcome(Record):
    """What became of a job."""

    run: str
    """The job's."""
    event: str
    """``finished``; ``broke down``: the loss is no number any more; ``stopped`` with its state saved; ``failed`` by
    somebody's mistake; ``crashed``: Python code raised; ``died``: the process is gone."""
    reason: str = ""
    """Why, in a sentence; empty when it finished."""
    seconds: float = 0.0
    """Wall time in the worker."""


def carried_out(job: Job) -> Outcome:
    """Train, or go on training, in the job's folder."""
    from ..training.interrupt import RunInterrupted

    began = time.perf_counter()
    event, reason = "finished", ""
    try:
        with locked(Path(job.folder), "another process is training here", PATIENCE):
            _train(job)
    except DivergedError as error:
        event, reason = "broke down", str(error).split(". ")[0].removeprefix("training stopped: ")
    except InputError as error:
        event, reason = "failed", str(error)
    except RunInterrupted:
        event, reason = "stopped", "its state is saved"
    except KeyboardInterrupt:
        event, reason = "stopped", "before or after its updates"
    except Exception as error:  # a mixer of one's own may raise anything; the other rows are none the worse for it
        traceback.print_exc()
        event, reason = "crashed", _where(error)
    return Outcome(run=job.run, event=event, reason=reason, seconds=time.perf_counter() - began)


def _where(error: Exception) -> str:
    """What was raised and by which line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"


def _train(job: Job) -> None:
    from ..run.train import train

    folder = Path(job.folder)
    goes_on = _can_go_on(folder)
    if not goes_on:
        RUN_FOLDER.clear(folder)  # what is left of a run that lost its config.json cannot be gone on with
    train(
        job.recipe,
        folder,
        resume=goes_on,
        command=job.command,
        spec=_whole(job),
        splits=_opened(job.recipe.task, job.recipe.data),
        evaluated="last",
        title=job.title,
        page=False,
        console=Console(quiet=True),
    )


def _can_go_on(folder: Path) -> bool:
    try:
        RunConfig.read(folder)
    except RunError:
        return False
    return True


@lru_cache(maxsize=1)
def _opened(task: str, choice: DataConfig) -> Any:
    """The images, opened once for all runs of a process."""
    return task_named(task).open(choice)


def _whole(job: Job) -> AnySpec:
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
