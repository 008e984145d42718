"""Checks of a source before training starts, so that missing and corrupt files are found before it, not during it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..errors import DataError
from ..recipe import DataConfig
from .dataset import BadFile, Progress
from .decode import UnreadableImage, read_image, read_size

Size = tuple[int, int]
"""Height and width in pixels."""

_Result = TypeVar("_Result")

_CHUNK = 128  # files between two reports of progress; bounds the results that wait for a slow file
_LISTED = 20  # faults that one message lists


def verify_images(
    paths: Sequence[Path], config: DataConfig, progress: Progress | None = None
) -> tuple[dict[Path, Size], list[BadFile]]:
    """Height and width of every readable image, and the unreadable ones with reasons.

    Both are empty with ``verify="none"``.
    """
    if config.verify == "none":
        return {}, []
    sizes: dict[Path, Size] = {}
    bad: list[BadFile] = []
    check = _decoded_size if config.verify == "full" else read_size
    for path, found in check_files(paths, check, "checking images", progress):
        if isinstance(found, BadFile):
            bad.append(found)
        else:
            sizes[path] = found
    return sizes, bad


def check_files(
    paths: Sequence[Path], check: Callable[[Path], _Result], doing: str, progress: Progress | None = None
) -> Iterator[tuple[Path, _Result | BadFile]]:
    """What ``check`` returns for each file, in order; a ``BadFile`` where it raises ``UnreadableImage``."""

    def checked(path: Path) -> _Result | BadFile:
        try:
            return check(path)
        except UnreadableImage as error:
            return BadFile(error.name, error.reason)

    # threads, because Pillow decodes without Python's lock; one more than cores, because some of them wait for the disk
    with ThreadPoolExecutor(min(16, (os.cpu_count() or 1) + 1)) as pool:
        for start in range(0, len(paths), _CHUNK):
            part = paths[start : start + _CHUNK]
            yield from zip(part, pool.map(checked, part), strict=True)
            if progress:
                progress(doing, start + len(part), len(paths))


def _decoded_size(path: Path) -> Size:
    width, height = read_image(path).size
    return height, width


def refuse_bad_files(bad: Sequence[BadFile], config: DataConfig, heading: str) -> None:
    """Raise a ``DataError`` that lists the bad files under a heading, unless there are none or they may be skipped."""
    if not bad or config.on_bad_image == "skip":
        return
    lines = [f"  {file.path}: {file.reason}" for file in bad[:_LISTED]]
    if len(bad) > _LISTED:
        lines.append(f"  and {len(bad) - _LISTED} more; `metaformer data check {config.source}` lists them all")
    raise DataError(
        f"{heading}:\n" + "\n".join(lines) + "\nRepair or remove them, or leave them out with --data.on-bad-image skip"
    )


def source_folder(config: DataConfig, expected: str) -> Path:
    """The folder that ``config.source`` names; raises ``DataError`` where there is none."""
    source = config.source.strip()
    path = Path(source).expanduser()
    if not source or not path.is_dir():
        problem = (
            "is empty" if not source else f"{source} is a file" if path.is_file() else f"there is no folder {source}"
        )
        raise DataError(f"data.source: {problem}; expected a folder with {expected}")
    return path
