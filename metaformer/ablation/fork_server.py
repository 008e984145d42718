"""The server that workers are forked from. It imports torch while the sweep itself is still being put together.

Nothing heavy is imported here: the command line begins it before it imports torch for itself.
"""

from __future__ import annotations

import multiprocessing
from typing import Any

START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
PRELOADED = [
    "metaformer.run.train",
    "metaformer.tasks.classification.task",
    "metaformer.training.trainer",
    "torch.utils.flop_counter",
    "torch.utils.tensorboard",
]
"""What the server imports once for all workers."""


def context() -> Any:
    """How workers are begun: from the server where the system can fork, by new interpreters elsewhere."""
    chosen: Any = multiprocessing.get_context(START)
    if START == "forkserver":
        chosen.set_forkserver_preload(PRELOADED)  # heeded until the server runs
    return chosen


def begin() -> None:
    """Begin the server without waiting for it. It ends with this process, whether it was needed or not."""
    context()
    if START == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
