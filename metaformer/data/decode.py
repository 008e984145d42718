"""An image file in; an upright image in mode ``L`` or ``RGB`` with 8 bits a channel out, or the reason why not.

All images are read here, so that training, evaluation and prediction see the same pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import DataError

Mode = Literal["L", "RGB"]

IMAGE_SUFFIXES = frozenset(
    "." + ending
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "avif"),
        *("tif", "tiff", "ppm", "pgm", "pbm", "pnm", "jp2"),
    )
)
"""A file with one of these suffixes (any case) is taken for an image; other files are ignored."""

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright, 5 to 8 swap height and width


class UnreadableImage(DataError):
    """A file with an image's suffix that is not an image, or is truncated."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} is not a readable image: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # exceptions are pickled by their args, here one message, which is not what __init__ takes
        return type(self), (self.name, self.reason)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def read_image(path: str | Path, mode: Mode = "RGB") -> Image.Image:
    """The image in a file, decoded completely, turned upright as its EXIF says, in ``mode``.

    Raises ``UnreadableImage`` with the path and the reason.
    """
    try:
        with Image.open(path) as image:
            image.load()  # open() reads the header only; a truncated file is noticed here
            return as_mode(image if _orientation(image) == 1 else ImageOps.exif_transpose(image), mode)
    except Exception as error:  # Pillow's decoders raise errors of any type on corrupt files
        raise UnreadableImage(str(path), _reason(path, error)) from None


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width in pixels of the upright image, from the file's header alone.

    Raises ``UnreadableImage`` with the path and the reason.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            return (width, height) if _orientation(image) >= 5 else (height, width)
    except Exception as error:  # as above
        raise UnreadableImage(str(path), _reason(path, error)) from None


def read_label_map(path: str | Path) -> np.ndarray:
    """The numbers in a label map, (H, W) int32 as stored: gray values, or the indices of a palette.

    Raises ``UnreadableImage`` with the path and the reason, such as an image with several channels.
    """
    try:
        with Image.open(path) as image:
            image.load()
            mode, values = image.mode, np.asarray(image)
    except Exception as error:  # as above
        raise UnreadableImage(str(path), _reason(path, error)) from None
    if values.ndim != 2 or values.dtype.kind not in "bui":  # bool, unsigned and signed integers
        raise UnreadableImage(str(path), f"expected one channel of integers, got Pillow's mode {mode}")
    if values.size and not 0 <= values.min() <= values.max() < 2**16:
        raise UnreadableImage(str(path), f"expected numbers of 16 bits, got {values.min()} to {values.max()}")
    return values.astype(np.int32)


def as_mode(image: Image.Image, mode: Mode) -> Image.Image:
    """Any decoded image as ``L`` or ``RGB``: transparent parts on white, 16 bits scaled to 8."""
    if image.mode.startswith(("I", "F")):  # Pillow's convert would clip such values at 255 instead of scaling them
        image = _to_eight_bits(image)
    if image.has_transparency_data:  # convert would keep whatever color lies under the transparent pixels
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == mode else image.convert(mode)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Integers are read as 16-bit grays; floats as 0 to 1 where none is above 1, else as 0 to 255."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        values = values * 255 if values.size and values.max() <= 1 else values
    else:
        # 65535 / 255 = 257. Pillow opens 16-bit PNGs in mode I with 32 bits, so the bound is not the type's
        values = values.clip(0, 65535) / 257
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # an image with corrupt metadata can still be used
        return 1


def _reason(path: str | Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        empty = Path(path).stat().st_size == 0
        return "the file is empty" if empty else "it is in no image format that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
