"""``evaluation.json`` of a folder, as the record of its task. No torch here, because reports read it."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, RunError
from ..evaluation import Evaluation
from ..files import read_json, write_json
from ..tasks.task import TASKS, Task, task_named
from .folder import EVALUATION


def write_evaluation(folder: Path, evaluation: Evaluation) -> Path:
    """Write evaluation.json atomically."""
    return write_json(folder / EVALUATION, evaluation.to_dict(), indent=None)


def read_evaluation(folder: Path, task: Task | None = None) -> Evaluation | None:
    """The evaluation.json of a folder, as its task's record; None where the file does not exist.

    Args:
        folder: a run's folder, or one that ``metaformer eval --out`` wrote.
        task: for files of version 0.1.0, which did not name classification.

    Raises:
        RunError: the file is damaged; the message has its path.
    """
    path = folder / EVALUATION
    if not path.is_file():
        return None
    data = read_json(path)
    try:
        # version 0.1.0 left the task out where it was classification
        named = task_named(str(data["task"])) if "task" in data else task or task_named(next(iter(TASKS)))
        return named.read_evaluation(data)
    except InputError as error:
        raise RunError(f"{path} is damaged; evaluate again (a run with train --resume). {error}") from None
