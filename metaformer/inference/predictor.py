"""``metaformer predict``: files, folders and patterns in, the likeliest classes of each image out."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..data.decode import UnreadableImage, is_image_name, read_image
from ..data.sets import BadFile
from ..data.transforms.image import evaluation_transform
from ..errors import DataError, did_you_mean
from ..tasks.classification.evaluate import likeliest
from .loaded import LoadedModel


@dataclass(frozen=True)
class ClassScore:
    """One class of an answer."""

    name: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a model sees in one image."""

    file: Path
    top: tuple[ClassScore, ...]
    """Most likely first."""

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        top = [{"class": g.name, "index": g.index, "probability": round(g.probability, 6)} for g in self.top]
        return {"file": str(self.file), "top": top}


@dataclass(frozen=True)
class Predictions:
    """Answers, and the files that were no images."""

    answers: tuple[Prediction, ...]
    skipped: tuple[BadFile, ...] = ()


def predict(
    trained: LoadedModel,
    paths: Sequence[str | Path],
    *,
    top: int = 5,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    on_bad_image: Literal["refuse", "skip"] = "refuse",
    each_image: Callable[[int, int], None] = lambda done, total: None,
) -> Predictions:
    """The ``top`` likeliest classes of every image.

    Args:
        trained: the model.
        paths: files, folders (all images below them) and patterns such as ``photos/*.jpg``.
        top: classes for each image.
        batch_size: images at a time.
        device: where to compute.
        on_bad_image: stop at a file that is no image, or leave it out and go on.
        each_image: told how many are done, of how many.

    Raises:
        DataError: nothing there, no image among it, or an unreadable file that was not to be skipped.
    """
    files = expanded(paths)
    model = trained.model.to(device).eval()
    channels = model.spec.in_chans
    transform = evaluation_transform(model.preprocessing, channels)
    answers: list[Prediction] = []
    skipped: list[BadFile] = []
    for start in range(0, len(files), batch_size):
        part = list(_read(files[start : start + batch_size], channels, on_bad_image, skipped))
        if part:
            images = torch.stack([transform(image) for _, image in part])
            with torch.inference_mode():
                logits = model(images.to(device))
            for (path, _), pairs in zip(part, likeliest(logits, top), strict=True):
                answers.append(Prediction(path, tuple(ClassScore(trained.class_name(i), i, p) for i, p in pairs)))
        each_image(min(start + batch_size, len(files)), len(files))
    return Predictions(tuple(answers), tuple(skipped))


def _read(
    files: Sequence[Path], channels: int, on_bad_image: str, skipped: list[BadFile]
) -> Iterator[tuple[Path, Image.Image]]:
    for path in files:
        try:
            yield path, read_image(path, "L" if channels == 1 else "RGB")
        except UnreadableImage as error:
            if on_bad_image == "refuse":
                raise DataError(f"{error}. Leave such files out with --on-bad-image skip") from None
            skipped.append(BadFile(error.name, error.reason))


def expanded(paths: Sequence[str | Path]) -> list[Path]:
    """Files, the images below folders, and what patterns match, each once, in the order given.

    Raises:
        DataError: something named is not there or has no image; the message suggests its neighbors.
    """
    if not paths:
        raise DataError("which images? Give files, folders or patterns such as 'photos/*.jpg'")
    found: dict[Path, None] = {}
    for path in paths:
        found |= dict.fromkeys(_images(str(path)))
    return list(found)


def _images(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file() and _shown(file, path))
        if not inside:
            raise DataError(f"{path}: no images in this folder")
        return inside
    if glob.has_magic(text):
        matches = (Path(match) for match in glob.glob(str(path), recursive=True))
        files = sorted(match for match in matches if match.is_file() and is_image_name(match.name))
        if not files:
            raise DataError(f"{text}: no image matches")
        return files
    raise DataError(f"{path}: no such file or folder. {_neighbors(path)}".rstrip())


def _shown(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return is_image_name(file.name) and not hidden


def _neighbors(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f"There is no folder {parent} either."
    hint = did_you_mean(path.name, [entry.name for entry in parent.iterdir()])
    return hint if hint.startswith("Did you mean") else ""


def bars(prediction: Prediction, width: int = 28) -> RenderableType:
    """One answer for a terminal: the file, and a bar for each class."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=width)
    table.add_column()
    for rank, guess in enumerate(prediction.top):
        bar = ProgressBar(
            total=1.0, completed=guess.probability, width=width, complete_style="cyan" if rank else "green"
        )
        name = Text(guess.name, style="" if rank else "bold", overflow="ellipsis")
        table.add_row(f"{guess.probability:7.2%}", bar, name)
    return Group(Text(str(prediction.file), style="bold"), table, Text())
