"""Looking at image files before training starts, so that a bad one is met at once and not in the night."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..errors import DataError
from ..recipe import DataConfig
from .decode import UnreadableImage, read_image, read_size
from .sets import BadFile, Progress

Size = tuple[int, int]
_Found = TypeVar("_Found")

_SLICE = 128  # images in flight at a time, and between two words of progress


def look_at(
    paths: Sequence[Path], choice: DataConfig, progress: Progress | None = None
) -> tuple[dict[Path, Size], list[BadFile]]:
    """Height and width of every readable image, and the unreadable ones with reasons.

    Both are empty with ``verify="none"``.
    """
    if choice.verify == "none":
        return {}, []
    sizes: dict[Path, Size] = {}
    bad: list[BadFile] = []
    look = _decoded_size if choice.verify == "full" else _header_size
    for path, found in looked_through(paths, look, "checking images", progress):
        if isinstance(found, BadFile):
            bad.append(found)
        else:
            sizes[path] = found
    return sizes, bad


def looked_through(
    paths: Sequence[Path], look: Callable[[Path], _Found], doing: str, progress: Progress | None = None
) -> Iterator[tuple[Path, _Found]]:
    """What ``look`` says of each file, in their order, several at a time."""
    with ThreadPoolExecutor(min(16, (os.cpu_count() or 1) + 1)) as pool:  # Pillow decodes outside Python's lock
        for start in range(0, len(paths), _SLICE):
            part = paths[start : start + _SLICE]
            yield from zip(part, pool.map(look, part), strict=True)
            if progress:
                progress(doing, start + len(part), len(paths))


def _decoded_size(path: Path) -> Size | BadFile:
    try:
        width, height = read_image(path).size
    except UnreadableImage as error:
        return BadFile(error.name, error.reason)
    return height, width


def _header_size(path: Path) -> Size | BadFile:
    try:
        return read_size(path)
    except UnreadableImage as error:
        return BadFile(error.name, error.reason)


def refuse(bad: Sequence[BadFile], among: int) -> None:
    """Raise a ``DataError`` that names the bad files, if there are any."""
    if not bad:
        return
    lines = [f"  {image.path}: {image.reason}" for image in bad[:5]]
    if len(bad) > 5:
        lines.append(f"  and {len(bad) - 5} more")
    files = "file" if len(bad) == 1 else "files"
    raise DataError(
        f"{len(bad)} of {among} image {files} cannot be used:\n"
        + "\n".join(lines)
        + "\nRepair or remove them, or leave them out with --data.on-bad-image skip"
    )
