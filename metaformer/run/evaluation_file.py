"""``evaluation.json`` of a folder, written and read as the record of its task. No torch here: reports read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError, RunError
from ..evaluation import Evaluation
from ..files import read_json, write_json
from ..tasks.task import TASKS, Task, task_named
from .folder import EVALUATION


def write_evaluation(folder: Path, evaluation: Evaluation) -> Path:
    """Write evaluation.json, all or nothing."""
    return write_json(folder / EVALUATION, evaluation.to_dict(), indent=None)


def read_evaluation(folder: Path, task: Task | None = None) -> Any | None:
    """The evaluation.json of a folder, as its task's record; None where there is none.

    Args:
        folder: a run's, or one that ``metaformer eval --out`` wrote.
        task: for files of 0.1.0, whose classifiers did not name their task.

    Raises:
        RunError: it is damaged; the message names it.
    """
    path = folder / EVALUATION
    if not path.is_file():
        return None
    data = read_json(path)
    try:
        # 0.1.0's classifiers did not name their task
        named = task_named(str(data["task"])) if "task" in data else task or task_named(next(iter(TASKS)))
        return named.read_evaluation(data)
    except InputError as error:
        raise RunError(f"{path} is damaged; evaluate again (a run with train --resume). {error}") from None
