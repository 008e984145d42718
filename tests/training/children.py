"""Real processes for tests that kill them. A fork server imports PyTorch once, so that each starts at once."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "metaformer.data.sources",
        "metaformer.data.transforms.image",
        "metaformer.model.build",
        "metaformer.training.trainer",
        "sklearn.datasets",
        "torch.utils.tensorboard",
    ]
)


def start(target: Callable[..., None], *args: Any) -> tuple[BaseProcess, Connection]:
    """Run ``target(*args, events)`` in a new process; gives the process and the end of ``events`` to read from."""
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=target, args=(*args, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def events_of(connection: Connection, patience: float = 120) -> Any:
    """What the process sends, until it ends."""
    while connection.poll(patience):
        try:
            yield connection.recv()
        except EOFError:
            return
    raise TimeoutError(f"no process event within {patience} s")
