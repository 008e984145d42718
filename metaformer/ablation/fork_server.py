"""The server that workers are forked from. It imports torch while the sweep is still being prepared.

Nothing heavy is imported here: the command line starts the server before it imports torch itself.
"""

from __future__ import annotations

import multiprocessing
from typing import Any

from ..recipe import Recipe
from ..tasks.task import TASKS

START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
PRELOADED = [
    "metaformer.run.train",
    "metaformer.training.trainer",
    "torch.utils.flop_counter",
    "torch.utils.tensorboard",
]
"""What the server imports once for all workers, beside the modules of the task."""


def context(task: str | None = None) -> Any:
    """How workers are started: from the server where the system can fork, by new interpreters elsewhere."""
    chosen: Any = multiprocessing.get_context(START_METHOD)
    if START_METHOD == "forkserver":
        # A task imports its modules when they are used, which would be once in every worker. The server skips a name
        # that does not exist. Once it runs, this has no effect.
        package = TASKS.get(task or Recipe().task, "").rpartition(".")[0]
        chosen.set_forkserver_preload(
            [*PRELOADED, *(f"{package}.{name}" for name in ("build", "objective", "evaluate"))]
        )
    return chosen


def start(task: str | None = None) -> None:
    """Start the server without waiting for it. It ends with this process, whether it was used or not.

    ``task`` is what its workers will train, the recipes' default if left out; another one only starts slower.
    """
    context(task)
    if START_METHOD == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
