"""Objects and label maps drawn on images: colors that stay apart, names that can be read on any ground.

In: a PIL image and arrays. Out: a new image of the same size. A class has the same color everywhere, in a drawing
as in a legend, whatever the number of classes. Letters: G objects, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Spot = tuple[float, float, float, float]  # left, top, right, bottom

MANY = 256
"""Colors there are; later classes take them anew from the first."""
_FIRST: tuple[Color, ...] = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
)  # fmt: skip
_MASK, _MAP = 0.45, 0.6  # opacity of a mask and of a label map
_NOTHING = 255  # the label of pixels without a class


def class_color(label: int) -> Color:
    """Red, green and blue of a class, from 0 to 255."""
    return _colors()[label % MANY]


def hexadecimal(color: Color) -> str:
    """``#0072b2``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


@cache
def _colors() -> tuple[Color, ...]:
    """Okabe and Ito's, then always the color that is farthest from all before; neither nearly gray, black nor white.

    Distances are in CIELAB, where they are roughly those that people see.
    """
    steps = np.linspace(0, 255, 14)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = _lab(candidates)
    vivid = (np.hypot(seen[:, 1], seen[:, 2]) > 25) & (seen[:, 0] > 30) & (seen[:, 0] < 88)
    candidates, seen = candidates[vivid], seen[vivid]
    chosen = list(_FIRST)
    distance = np.min(np.linalg.norm(seen[:, None] - _lab(np.array(_FIRST, dtype=float)), axis=2), axis=1)
    while len(chosen) < MANY:
        farthest = int(distance.argmax())
        red, green, blue = np.rint(candidates[farthest]).astype(int).tolist()
        chosen.append((red, green, blue))
        distance = np.minimum(distance, np.linalg.norm(seen - seen[farthest], axis=1))
    return tuple(chosen)


def _lab(colors: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB (N, 3) from 0 to 255 as CIELAB under daylight (D65)."""
    share = colors / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / (0.9505, 1.0, 1.089)
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
    """Boxes (G, 4) as left, top, right, bottom, with their names, and masks (G, H, W), on a copy of the image.

    Without scores only the names are written. What comes first lies on top, as the best of a detector's answer should.
    """
    pixels = np.asarray(image.convert("RGB"))
    order = range(len(labels) - 1, -1, -1)
    if masks is not None and len(masks):
        pixels = pixels.copy()
        for index in order:
            _fill(pixels, masks[index].astype(bool), class_color(labels[index]))
    drawn = Image.fromarray(pixels)
    pen, width = ImageDraw.Draw(drawn), max(1, round(max(image.size) / 300))
    corners = [tuple(float(edge) for edge in box) for box in np.asarray(boxes)]
    for index in order:
        left, top, right, bottom = corners[index]
        outline = (left, top, max(left, right - 1), max(top, bottom - 1))  # the last pixel inside, as PIL counts
        pen.rectangle(outline, outline=class_color(labels[index]), width=width)
    taken: list[Spot] = []
    for index, label in enumerate(labels):
        name = _name(classes, label)
        text = name if scores is None else f"{name} {scores[index]:.0%}"
        _tag(pen, text, class_color(label), corners[index], image.size, taken)
    return drawn


def _fill(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], color: Color) -> None:
    """Color what a mask covers, its edge fully."""
    pixels[mask] = ((1 - _MASK) * pixels[mask] + _MASK * np.array(color)).astype(np.uint8)
    pixels[mask & ~_eroded(mask)] = color


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the pixels that touch something else above, below, left or right."""
    framed = np.pad(mask, 1)
    return framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else f"class {label}"


def _tag(
    pen: ImageDraw.ImageDraw, text: str, color: Color, box: Sequence[float], size: tuple[int, int], taken: list[Spot]
) -> None:
    """A name on a plate of its class's color: above the box where there is room, else in it or below it; for lack of
    any free place it is left out rather than written over another one."""
    letters = font(max(10, min(26, round(max(size) / 42))))
    left, top, right, bottom = pen.textbbox((0, 0), text, font=letters)
    wide, high = right - left + 6, bottom - top + 4
    x = min(max(box[0], 0), max(size[0] - wide, 0))
    for y in (box[1] - high, box[1], box[3] - high, box[3]):
        plate = (x, y, x + wide, y + high)
        inside = y >= 0 and plate[3] <= size[1]
        if inside and not any(_meet(plate, other) for other in taken):
            pen.rectangle(plate, fill=color)
            pen.text((x + 3 - left, y + 2 - top), text, fill=ink(color), font=letters)
            taken.append(plate)
            return


def _meet(one: Spot, other: Spot) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def ink(color: Color) -> Color:
    """Black or white, whichever is read more easily on ``color``."""
    lightness = float(_lab(np.array([color], dtype=float))[0, 0])
    return (0, 0, 0) if lightness > 55 else (255, 255, 255)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has Cyrillic and Greek too, at ``size`` pixels."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def draw_label_map(image: Image.Image, label_map: NDArray[np.integer]) -> Image.Image:
    """A label map (H, W) laid over a copy of the image, lines between classes; where it is 255 nothing is laid."""
    pixels = np.asarray(image.convert("RGB")).astype(float)
    colors = colored(label_map)
    known = label_map != _NOTHING
    pixels[known] = (1 - _MAP) * pixels[known] + _MAP * colors[known]
    edge = np.zeros(label_map.shape, dtype=bool)
    edge[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
    edge[1:] |= label_map[1:] != label_map[:-1]
    pixels[edge & known] = colors[edge & known]
    return Image.fromarray(pixels.astype(np.uint8))


def colored(label_map: NDArray[np.integer]) -> NDArray[np.uint8]:
    """(H, W, 3) the color of each pixel's class; black where it is 255."""
    table = np.array([class_color(label) for label in range(_NOTHING)] + [(0, 0, 0)], dtype=np.uint8)
    return table[label_map]


def with_legend(image: Image.Image, labels: Sequence[int], classes: Sequence[str]) -> Image.Image:
    """The image with the names of ``labels`` beside their colors in lines below it, long ones cut to its width."""
    letters = font(max(11, min(22, round(max(image.size) / 42))))
    line = round(1.5 * letters.size)
    places: list[tuple[float, int, int, str]] = []
    x, row = 0.0, 0
    for label in labels:
        name = _cut(_name(classes, label), letters, image.width - 2 * line)
        wide = line + letters.getlength(name) + line
        if x and x + wide > image.width:
            x, row = 0.0, row + 1
        places.append((x, row, label, name))
        x += wide
    drawn = Image.new("RGB", (image.width, image.height + (line * (row + 1) + 6 if labels else 0)), "white")
    drawn.paste(image, (0, 0))
    pen = ImageDraw.Draw(drawn)
    for x, row, label, name in places:
        top = image.height + 3 + row * line
        pen.rectangle((x + 4, top + 3, x + line - 3, top + line - 4), fill=class_color(label))
        pen.text((x + line + 2, top + line / 2), name, fill="black", font=letters, anchor="lm")
    return drawn


def _cut(name: str, letters: ImageFont.FreeTypeFont, width: float) -> str:
    """As much of a name as ``width`` pixels hold."""
    if letters.getlength(name) <= width:
        return name
    while name and letters.getlength(f"{name}…") > width:
        name = name[:-1]
    return f"{name}…"
