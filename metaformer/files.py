"""Atomic writing of files, and JSON files. No torch here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import InputError, RunError


def replace_file(path: Path, data: bytes, previous: Path | None = None) -> None:
    """Write ``data`` to ``path`` atomically: at every moment the complete old or the complete new content is there.

    With ``previous``, the old file is renamed to it first; between the two renames it is the only complete file. Raises
    ``RunError`` when the disk is full or cannot be written.
    """
    # in the same folder, because a rename between file systems would be a copy
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a rename can reach the disk before the data does
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}). An earlier version of the file is unchanged. Free some "
            f"disk space ({len(data) / 1e6:.1f} MB are needed) or choose another folder, then run the command again"
        ) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the renames themselves durable."""
    if os.name == "posix":  # Windows cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = 2) -> Path:
    """Write a JSON object atomically; raises ``RunError`` when the disk is full or cannot be written."""
    replace_file(path, (json.dumps(content, indent=indent) + "\n").encode())
    return path


def read_json(path: Path, error: type[InputError] = RunError) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: of the type ``error``, with the path: no such file, invalid JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror})") from None
    except (ValueError, RecursionError) as problem:  # RecursionError: thousands of nested brackets
        raise error(f"{path}: not valid JSON ({problem}); the file is damaged") from None
    if not isinstance(content, dict):
        raise error(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
