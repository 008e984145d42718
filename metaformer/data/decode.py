"""An image file in, an upright ``L`` or ``RGB`` image of 8 bits a channel out, or a reason why not.

Everything that reads images goes through here, so that training, evaluation and prediction see the same
pixels.
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
"""A file with one of these endings (any case) claims to be an image; other files are left alone."""

_ORIENTATION = 0x0112  # EXIF tag: 1 is upright, 5 to 8 lie on their side


class UnreadableImage(DataError):
    """A file that claims to be an image and is not one, or is cut."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} is not a readable image: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.name, self.reason)


def is_image_name(name: str) -> bool:
    """Whether a file of this name claims to be an image."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def read_image(path: str | Path, mode: Mode = "RGB") -> Image.Image:
    """The image in a file, decoded to its last row, turned as its EXIF says, in ``mode``.

    Raises ``UnreadableImage`` with the path and the reason.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return as_mode(_upright(image), mode)
    except Exception as error:  # Pillow's decoders raise whatever a broken file provokes
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

    Raises ``UnreadableImage`` with the path and the reason, such as an image of colors.
    """
    try:
        with Image.open(path) as image:
            image.load()
            mode, values = image.mode, np.asarray(image)
    except Exception as error:  # as above
        raise UnreadableImage(str(path), _reason(path, error)) from None
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise UnreadableImage(str(path), f"expected one channel of whole class numbers, got Pillow's mode {mode}")
    if values.size and not 0 <= values.min() <= values.max() < 2**16:
        raise UnreadableImage(str(path), f"expected numbers of 16 bits, got {values.min()} to {values.max()}")
    return values.astype(np.int32)


def as_mode(image: Image.Image, mode: Mode) -> Image.Image:
    """Any decoded image as ``L`` or ``RGB``: transparent parts on white, 16 bits scaled to 8."""
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Integers are 16-bit grays; floats are shares of white where none is above 1, else 0 to 255."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        values = values * 255 if values.size and values.max() <= 1 else values
    else:
        values = values.clip(0, 65535) / 257
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata do not make a broken image
        return 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _reason(path: str | Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        empty = Path(path).stat().st_size == 0
        return "the file is empty" if empty else "its content is no image format that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
