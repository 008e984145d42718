"""What ``metaformer predict`` writes: a drawing for each image, a label map, COCO's results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import DataError
from ..files import replace_file
from ..tasks.task import Task
from .config import is_run


def expect_free(out: Path, files: Sequence[Path | Image.Image]) -> None:
    """Refuse a folder in which drawings would replace the images themselves, or fill a run's folder.

    Raises:
        DataError: naming the folder.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; expected a folder for the drawings. Choose another with --out")
    if is_run(out):
        raise DataError(f"{out} is a run's folder; choose another for the drawings with --out")
    if any(isinstance(file, Path) and file.resolve().parent == out.resolve() for file in files):
        raise DataError(
            f"{out} contains the images themselves, which drawings could replace; choose another with --out"
        )


def write_predictions(task: Task, results: Iterable[Any], out: Path) -> Iterator[tuple[Any, dict[str, Path]]]:
    """Write each result's images as it comes, and at last the files over all of them.

    Into ``out`` go ``NAME.png``, the image with the result drawn on it, ``NAME.labels.png`` (a segmenter's classes: a
    pixel's value is its label, from 0 on) and ``results.json`` (a detector's objects as COCO's results).

    Yields:
        Each result and its files by their endings; nothing is written for results that have no images.
    """
    taken: set[str] = set()
    kept = []
    for result in results:
        images = result.images()
        files = {}
        if images:
            out.mkdir(parents=True, exist_ok=True)
            name = _free_name(result.file, taken, tuple(images))
            files = {ending: out / f"{name}{ending}" for ending in images}
            for ending, image in images.items():
                image.save(files[ending])
        kept.append(_without_image(result))
        yield result, files
    for name, content in task.collect(kept).items():
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / name, json.dumps(content).encode())


def _free_name(file: Path | None, taken: set[str], endings: Sequence[str]) -> str:
    """A name of its own for each image: its file's stem, with a number behind where one had it before."""
    stem = "image" if file is None else file.stem
    name, number = stem, 1
    while any(f"{name}{ending}" in taken for ending in endings):
        number += 1
        name = f"{stem}-{number}"
    taken |= {f"{name}{ending}" for ending in endings}
    return name


def _without_image(result: Any) -> Any:
    """The result without its pixels: thousands of images would not fit into memory."""
    return replace(result, image=None) if getattr(result, "image", None) is not None else result
