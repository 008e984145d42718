"""Images as users name them: paths, folders, patterns, arrays or PIL images in; files or PIL images out."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..data.decode import Mode, UnreadableImage, as_mode, is_image_name, read_image
from ..errors import DataError, did_you_mean

ImageInput: TypeAlias = "str | Path | Image.Image | NDArray[np.uint8]"
"""A file, a folder (all images below), a pattern such as ``photos/*.jpg``; a PIL image; uint8 (H, W) or (H, W, 3)."""


def expand(paths: Sequence[str | Path]) -> list[Path]:
    """All image files that the paths stand for, each once, in the order given: files, folders, patterns.

    Raises:
        DataError: a path that does not exist or has no image; the message suggests similar names.
    """
    if not paths:
        raise DataError("no images given; pass files, folders or patterns such as 'photos/*.jpg'")
    files: dict[Path, None] = {}  # a set that keeps its order
    for path in paths:
        files |= dict.fromkeys(_image_files(str(path)))
    return list(files)


def _image_files(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _is_image_in(file, path))
        if not files:
            raise DataError(f"{path}: no images in this folder")
        return files
    if glob.has_magic(text):  # last, since a file name may have brackets
        matches = (Path(match) for match in glob.glob(str(path), recursive=True))
        files = sorted(match for match in matches if match.is_file() and is_image_name(match.name))
        if not files:
            raise DataError(f"{text}: no image matches")
        return files
    raise DataError(f"{path}: no such file or folder. {_similar_path(path)}".rstrip())


def _is_image_in(file: Path, folder: Path) -> bool:
    # no thumbnails and trash that systems keep in hidden folders
    is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return is_image_name(file.name) and not is_hidden


def _similar_path(path: Path) -> str:
    if not path.parent.is_dir():
        return f"There is no folder {path.parent} either."
    hint = did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    return hint if hint.startswith("Did you mean") else ""  # not a list of everything in the folder


def sources(images: ImageInput | Iterable[ImageInput]) -> list[Path | Image.Image]:
    """Files and PIL images, in the order given.

    Raises:
        DataError: a path that does not exist, or an array of another shape or type.
    """
    # an array is one image; a loop over it would give its rows
    if isinstance(images, (str, Path, Image.Image, np.ndarray)) or not isinstance(images, Iterable):
        images = [images]
    result: list[Path | Image.Image] = []
    for image in images:
        if isinstance(image, (str, Path)):
            result += expand([image])
        elif isinstance(image, Image.Image):
            result.append(image)
        else:
            result.append(_from_array(image))
    if not result:
        raise DataError("no images given; pass files, folders, PIL images or arrays")
    return result


def _from_array(array: object) -> Image.Image:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim not in (2, 3):
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"images: expected a path, a PIL image, or an array (H, W) or (H, W, 3) of uint8, got {got}")
    if array.ndim == 3 and array.shape[2] not in (1, 3):
        raise DataError(f"images: expected an array (H, W) or (H, W, 3), channels last in RGB, got {array.shape}")
    # PIL has no images with an axis of one channel
    return Image.fromarray(array.squeeze(2) if array.ndim == 3 and array.shape[2] == 1 else array)


def read(source: Path | Image.Image, mode: Mode) -> Image.Image:
    """The image in ``mode``, upright; raises ``UnreadableImage``."""
    if not isinstance(source, Image.Image):
        return read_image(source, mode)
    try:
        # PIL decodes a file at first use, and rotates by its EXIF tag only here
        return as_mode(ImageOps.exif_transpose(source), mode)
    except Exception as error:  # Pillow's decoders raise errors of any type on corrupt files
        raise UnreadableImage(str(getattr(source, "filename", "")) or "image", str(error)) from None


def batches(sources_: Sequence[Path | Image.Image], size: int) -> Iterator[Sequence[Path | Image.Image]]:
    """The sources in batches of ``size``; the last may be smaller."""
    return (sources_[start : start + size] for start in range(0, len(sources_), size))
