"""A lock on a folder. The system releases it with the process that holds it, even if that is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import RunError

LOCK = ".lock"


@contextmanager
def locked(folder: Path, taken: str, timeout: float = 0.0) -> Iterator[None]:
    """Create the folder and hold its lock, waiting up to ``timeout`` seconds for another process.

    Raises:
        RunError: the message ``taken`` if another process holds the lock; or the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+b")
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}. Choose another with --out") from None
    with file:
        deadline = time.monotonic() + timeout
        while not _acquire(file):
            if time.monotonic() >= deadline:
                raise RunError(f"{folder}: {taken}")
            time.sleep(0.1)
        yield


def _acquire(file: IO[bytes]) -> bool:
    """Whether the lock was free and is this process's now."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks; there two sweeps in one folder are not detected
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
