"""Detections and label maps drawn on images, with distinct colors and readable class names.

In: a PIL image and arrays. Out: a new image of the same size. A class has the same color in every drawing and legend,
whatever the number of classes. Letters: G objects, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..types import IGNORED

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

COLORS = 256
"""Number of colors; after that they repeat."""
# Okabe and Ito's palette, as in style.py, but in another order and without black and yellow
_FIRST_COLORS: tuple[Color, ...] = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
)  # fmt: skip
_MASK_OPACITY, _MAP_OPACITY = 0.45, 0.6


def class_color(label: int) -> Color:
    """Red, green and blue of a class, from 0 to 255."""
    return _palette()[label % COLORS]


def hexadecimal(color: Color) -> str:
    """``#0072b2``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


@cache
def _palette() -> tuple[Color, ...]:
    """The first colors, then always the candidate that is farthest from all colors before it.

    Distances are in CIELAB, where they are close to the differences that people see.
    """
    steps = np.linspace(0, 255, 14)  # 2,744 candidates, of which 2,001 are vivid: enough for 256 colors
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _lab(candidates)
    # no near-grays, which photographs are full of, and neither near-black nor near-white, which text is written in
    vivid = (np.hypot(lab[:, 1], lab[:, 2]) > 25) & (lab[:, 0] > 30) & (lab[:, 0] < 88)
    candidates, lab = candidates[vivid], lab[vivid]
    colors = list(_FIRST_COLORS)
    distance = np.min(np.linalg.norm(lab[:, None] - _lab(np.array(_FIRST_COLORS, dtype=float)), axis=2), axis=1)
    while len(colors) < COLORS:
        farthest = int(distance.argmax())
        red, green, blue = np.rint(candidates[farthest]).astype(int).tolist()
        colors.append((red, green, blue))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=1))
    return tuple(colors)


def _lab(colors: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB (N, 3) from 0 to 255 as CIELAB under daylight (D65)."""
    share = colors / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / (0.9505, 1.0, 1.089)  # divided by the white point
    # CIE 15 gives the constants as these fractions
    curved = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = curved.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def shrunk(image: Image.Image, side: int) -> Image.Image:
    """The image in ``RGB`` with its long side at most ``side`` pixels."""
    ratio = side / max(image.size)
    small = image.convert("RGB")
    if ratio >= 1:
        return small
    return small.resize((max(1, round(image.width * ratio)), max(1, round(image.height * ratio))))


def draw_detections(
    image: Image.Image,
    boxes: NDArray[np.floating],
    labels: Sequence[int],
    classes: Sequence[str],
    *,
    scores: Sequence[float] | None = None,
    masks: NDArray[np.uint8] | None = None,
) -> Image.Image:
    """Draw boxes (G, 4) as left, top, right, bottom, with class names, and masks (G, H, W) on a copy of the image.

    Scores are written after the names. The first detection is drawn on top.
    """
    pixels = np.asarray(image.convert("RGB"))
    order = range(len(labels) - 1, -1, -1)  # last to first: detections come best first
    if masks is not None and len(masks):
        pixels = pixels.copy()  # PIL's own memory is read-only
        for index in order:
            _fill(pixels, masks[index].astype(bool), class_color(labels[index]))
    drawn = Image.fromarray(pixels)
    pen, width = ImageDraw.Draw(drawn), max(1, round(max(image.size) / 300))
    corners = [tuple(float(edge) for edge in box) for box in np.asarray(boxes)]
    for index in order:
        left, top, right, bottom = corners[index]
        # PIL includes the last pixel, a box ends before it; PIL refuses an end before the start
        outline = (left, top, max(left, right - 1), max(top, bottom - 1))
        pen.rectangle(outline, outline=class_color(labels[index]), width=width)
    occupied: list[Rectangle] = []
    for index, label in enumerate(labels):  # first to last: where names compete for a place, the best detection gets it
        name = _class_name(classes, label)
        text = name if scores is None else f"{name} {scores[index]:.0%}"
        _draw_name(pen, text, class_color(label), corners[index], image.size, occupied)
    return drawn


def _fill(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], color: Color) -> None:
    """Color the pixels of a mask, in place: half transparent inside, opaque at its edge."""
    pixels[mask] = ((1 - _MASK_OPACITY) * pixels[mask] + _MASK_OPACITY * np.array(color)).astype(np.uint8)
    padded = np.pad(mask, 1)  # outside of the image counts as not masked, so a mask has an edge there too
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    pixels[mask & ~inner] = color


def _class_name(classes: Sequence[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else f"class {label}"


def _draw_name(
    pen: ImageDraw.ImageDraw,
    text: str,
    color: Color,
    box: Sequence[float],
    size: tuple[int, int],
    occupied: list[Rectangle],
) -> None:
    """Write a name on a plate of its class's color: above the box where there is room, else inside or below it.

    A name without a free place is left out, so that it does not cover another one.
    """
    letters = font(max(10, min(26, round(max(size) / 42))))  # about as large in a small image as in a photograph
    left, top, right, bottom = pen.textbbox((0, 0), text, font=letters)  # PIL's text does not start at (0, 0)
    wide, high = right - left + 6, bottom - top + 4
    x = min(max(box[0], 0), max(size[0] - wide, 0))
    for y in (box[1] - high, box[1], box[3] - high, box[3]):
        plate = (x, y, x + wide, y + high)
        inside = y >= 0 and plate[3] <= size[1]
        if inside and not any(_overlap(plate, other) for other in occupied):
            pen.rectangle(plate, fill=color)
            pen.text((x + 3 - left, y + 2 - top), text, fill=text_color(color), font=letters)
            occupied.append(plate)
            return


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def text_color(background: Color) -> Color:
    """Black or white, whichever is more readable on ``background``."""
    lightness = float(_lab(np.array([background], dtype=float))[0, 0])
    return (0, 0, 0) if lightness > 55 else (255, 255, 255)  # from 0 to 100; middle gray has 54


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at ``size`` pixels. It comes with matplotlib and has Cyrillic and Greek letters too."""
    import matplotlib  # for its folder only; drawing on images needs none of it

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def draw_label_map(image: Image.Image, label_map: NDArray[np.integer]) -> Image.Image:
    """Draw a label map (H, W) over a copy of the image, with lines between classes; ignored pixels stay as they are."""
    pixels = np.asarray(image.convert("RGB")).astype(float)
    colors = colored(label_map)
    known = label_map != IGNORED
    pixels[known] = (1 - _MAP_OPACITY) * pixels[known] + _MAP_OPACITY * colors[known]
    edge = np.zeros(label_map.shape, dtype=bool)
    edge[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
    edge[1:] |= label_map[1:] != label_map[:-1]
    pixels[edge & known] = colors[edge & known]
    return Image.fromarray(pixels.astype(np.uint8))


def colored(label_map: NDArray[np.integer]) -> NDArray[np.uint8]:
    """(H, W, 3) the color of each pixel's class; black for ignored pixels."""
    table = np.array([class_color(label) for label in range(IGNORED)] + [(0, 0, 0)], dtype=np.uint8)
    return table[label_map]


def with_legend(image: Image.Image, labels: Sequence[int], classes: Sequence[str]) -> Image.Image:
    """The image with a legend below it: the colors of ``labels`` with their names, truncated to the image's width."""
    letters = font(max(11, min(22, round(max(image.size) / 42))))
    line = round(1.5 * letters.size)
    entries: list[tuple[float, int, int, str]] = []
    x, row = 0.0, 0
    for label in labels:
        name = _truncate(_class_name(classes, label), letters, image.width - 2 * line)
        wide = line + letters.getlength(name) + line  # the color's square, the name, a gap
        if x and x + wide > image.width:  # not at the start of a row, where an entry that is too wide has to stay
            x, row = 0.0, row + 1
        entries.append((x, row, label, name))
        x += wide
    drawn = Image.new("RGB", (image.width, image.height + (line * (row + 1) + 6 if labels else 0)), "white")
    drawn.paste(image, (0, 0))
    pen = ImageDraw.Draw(drawn)
    for x, row, label, name in entries:
        top = image.height + 3 + row * line
        pen.rectangle((x + 4, top + 3, x + line - 3, top + line - 4), fill=class_color(label))
        pen.text((x + line + 2, top + line / 2), name, fill="black", font=letters, anchor="lm")
    return drawn


def _truncate(name: str, letters: ImageFont.FreeTypeFont, width: float) -> str:
    """The name, shortened to ``width`` pixels."""
    if letters.getlength(name) <= width:
        return name
    while name and letters.getlength(f"{name}…") > width:
        name = name[:-1]
    return f"{name}…"
