"""A lock on a folder that ends with the process that holds it, however it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import RunError

LOCK = ".lock"


@contextmanager
def locked(folder: Path, taken: str, patience: float = 0.0) -> Iterator[None]:
    """Make the folder and hold its lock; another process is waited for ``patience`` seconds.

    Raises:
        RunError: the message ``taken`` when somebody else holds it; or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+b")
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}. Choose another with --out") from None
    with file:
        give_up = time.monotonic() + patience
        while not _take(file):
            if time.monotonic() >= give_up:
                raise RunError(f"{folder}: {taken}")
            time.sleep(0.1)
        yield


def _take(file: IO[bytes]) -> bool:
    """Whether the lock was free and is this process's now."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system: the person is trusted
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
