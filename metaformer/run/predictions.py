"""The files of ``metaformer predict``: a drawing for each image, label maps, COCO results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from ..errors import DataError
from ..files import replace_file
from ..tasks.task import Result, Task
from .config import is_run

ResultT = TypeVar("ResultT", bound=Result)


def expect_free(out: Path, files: Sequence[Path | Image.Image]) -> None:
    """Check that drawings can be written to ``out``.

    Raises:
        DataError: it is a file or a run's folder, or it contains the images themselves.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; expected a folder for the drawings. Choose another with --out")
    if is_run(out):
        raise DataError(f"{out} is a run's folder; choose another for the drawings with --out")
    if any(isinstance(file, Path) and file.resolve().parent == out.resolve() for file in files):
        raise DataError(
            f"{out} contains the images themselves, which drawings could replace; choose another with --out"
        )


def write_predictions(task: Task, results: Iterable[ResultT], out: Path) -> Iterator[tuple[ResultT, dict[str, Path]]]:
    """Write the images of each result as it comes, and then the files for all results together.

    The files in ``out``: ``NAME.png``, the image with the result drawn on it; ``NAME.labels.png``, a segmenter's label
    map, whose pixel values are labels from 0; ``results.json``, a detector's objects in COCO's results format.

    Yields:
        Each result with its files by file name ending; no files for results without images.
    """
    used_names: set[str] = set()
    collected: list[Result] = []
    collects = bool(task.collect(()))  # else thousands of label maps would be kept for no file
    for result in results:
        images = result.images()
        files = {}
        if images:
            out.mkdir(parents=True, exist_ok=True)
            name = _free_name(result.file, used_names, tuple(images))
            files = {ending: out / f"{name}{ending}" for ending in images}
            for ending, image in images.items():
                image.save(files[ending])
        if collects:
            lean: Any = result
            if getattr(lean, "image", None) is not None:  # thousands of images would not fit into memory
                lean = replace(lean, image=None)
            collected.append(lean)
        yield result, files
    for name, content in task.collect(collected).items():
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / name, json.dumps(content).encode())


def _free_name(file: Path | None, used: set[str], endings: Sequence[str]) -> str:
    """The stem of the image's file, followed by a number where an earlier image has the same stem."""
    stem = "image" if file is None else file.stem
    name, number = stem, 1
    # with the endings, because a file can be called a.labels.jpg beside a.jpg
    while any(f"{name}{ending}" in used for ending in endings):
        number += 1
        name = f"{stem}-{number}"
    used |= {f"{name}{ending}" for ending in endings}
    return name
