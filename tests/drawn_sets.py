"""Small datasets, drawn on the spot: folders of one color a class, and bright discs and squares on dark noise, in
COCO's layout and ADE20K's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CATEGORIES = ({"id": 3, "name": "disc"}, {"id": 8, "name": "square"})
COLORS = ((220, 60, 50), (50, 90, 220))
LABELS = ("disc", "square", "ground")
"""Of the label maps, stored from 1 on; the lowest rows have none, which is stored as 0."""
WIDTH, HEIGHT = 64, 56
CLASS_COLORS = {"blue": (40, 60, 200), "green": (30, 180, 60), "red": (210, 50, 40)}


def class_folder(
    root: Path, train: int = 4, val: int = 2, colors: Mapping[str, tuple[int, int, int]] = CLASS_COLORS
) -> Path:
    """Noisy images of 10 × 12 of one color a class, in train/ and val/."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for name, color in colors.items():
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = np.clip(np.array(color) + rng.integers(-30, 30, (12, 10, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{i}.png")
    return root


def shapes(seed: int) -> list[tuple[int, int, int, int]]:
    """Label, left, top and side of each shape: one in the left half and, in three of four images, one in the
    right."""
    draws = np.random.RandomState(seed)
    found = [
        (
            int(draws.randint(2)),
            32 * half + int(draws.randint(6)),
            int(draws.randint(4, 26)),
            int(draws.randint(20, 26)),
        )
        for half in range(2)
    ]
    return found[: 1 if seed % 4 == 3 else 2]


def drawn(seed: int) -> tuple[Image.Image, Image.Image]:
    """An image and its label map as stored."""
    pixels = np.random.RandomState(seed).randint(0, 60, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    scene, labels = Image.fromarray(pixels), Image.new("L", (WIDTH, HEIGHT), 3)
    for image in (scene, labels):
        pen = ImageDraw.Draw(image)
        for label, left, top, side in shapes(seed):
            draw = (pen.ellipse, pen.rectangle)[label]
            fill: Any = COLORS[label] if image is scene else label + 1
            draw((left, top, left + side - 1, top + side - 1), fill=fill)
    ImageDraw.Draw(labels).rectangle((0, HEIGHT - 4, WIDTH, HEIGHT), fill=0)
    return scene, labels


def _outline(label: int, left: int, top: int, side: int) -> list[float]:
    """A polygon around a shape."""
    if label == 1:
        right, bottom = left + side, top + side
        return [left, top, right, top, right, bottom, left, bottom]
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    around = np.stack([np.cos(turns), np.sin(turns)], axis=1) * side / 2 + (left + side / 2, top + side / 2)
    return [round(float(number), 2) for number in around.ravel()]


def coco_folder(root: Path, train: int = 8, val: int = 4, masks: bool = True) -> Path:
    """A set of objects; without ``masks``, of boxes alone."""
    (root / "annotations").mkdir(parents=True)
    for part, count, first in (("train", train, 0), ("val", val, 100)):
        place = root / "images" / part
        place.mkdir(parents=True)
        images, objects = [], []
        for seed in range(first, first + count):
            drawn(seed)[0].save(place / f"{seed:03}.png")
            images.append({"id": seed, "file_name": f"{seed:03}.png", "height": HEIGHT, "width": WIDTH})
            for label, left, top, side in shapes(seed):
                one = {"id": len(objects) + 1, "image_id": seed, "category_id": CATEGORIES[label]["id"], "iscrowd": 0}
                outline = {"segmentation": [_outline(label, left, top, side)]} if masks else {}
                objects.append({**one, "bbox": [left, top, side, side], "area": side * side, **outline})
        document = {"images": images, "annotations": objects, "categories": CATEGORIES}
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(document))
    return root


def ade20k_folder(root: Path, train: int = 8, val: int = 4) -> Path:
    """A set of label maps with the names of its classes."""
    for part, count, first in (("training", train, 0), ("validation", val, 100)):
        for kind in ("images", "annotations"):
            (root / kind / part).mkdir(parents=True)
        for seed in range(first, first + count):
            image, labels = drawn(seed)
            image.save(root / "images" / part / f"{seed:03}.png")
            labels.save(root / "annotations" / part / f"{seed:03}.png")
    names = "".join(f"{number}\t{name}\n" for number, name in enumerate(LABELS, start=1))
    (root / "classes.tsv").write_text(f"label\tname\n{names}")
    return root
