"""Small annotated sets, written on the spot: COCO's layout and ADE20K's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny_images import noise

CATEGORIES = [{"id": 7, "name": "ball"}, {"id": 3, "name": "cat"}]
"""Out of order and with gaps: cat is label 0, ball label 1."""


def square(left: int, top: int, side: int) -> list[list[int]]:
    """The polygon of a square."""
    right, bottom = left + side, top + side
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(number: int, image: int, category: int = 3, **changes: Any) -> dict[str, Any]:
    """A square of 6 pixels at 2, 3 in an image."""
    own = {"id": number, "image_id": image, "category_id": category, "bbox": [2, 3, 6, 6], "area": 36, "iscrowd": 0}
    return {**own, "segmentation": square(2, 3, 6), **changes}


def document(count: int = 3, first: int = 10) -> dict[str, Any]:
    """So many images of 20 × 16, the last without an object, the one before with two, one in each other."""
    images = [{"id": first + i, "file_name": f"{first + i}.png", "height": 16, "width": 20} for i in range(count)]
    found = [annotation(100 + i, first + i) for i in range(count - 1)]
    return {"images": images, "annotations": [*found, annotation(99, first + count - 2, 7)], "categories": CATEGORIES}


def write_part(root: Path, split: str, content: dict[str, Any], folder: str = "images/") -> None:
    """One part in COCO's layout, with all the images that it names."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    place = root / f"{folder}{split}"
    place.mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        noise(image["id"], 16, 20).save(place / image["file_name"])


def coco_set(root: Path, train: dict[str, Any] | None = None, val: dict[str, Any] | None = None) -> Path:
    """Both parts."""
    write_part(root, "train2017", train or document())
    write_part(root, "val2017", val or document(2, first=50))
    return root


def labels_of(seed: int, height: int = 16, width: int = 20, classes: int = 3) -> np.ndarray:
    """A label map as stored: 0 is no class, 1 to ``classes``."""
    return np.random.RandomState(seed).randint(0, classes + 1, (height, width), np.uint8)


def label_map_set(
    root: Path, train: int = 3, val: int = 2, names: tuple[str, str] = ("training", "validation")
) -> Path:
    """Both parts in ADE20K's layout."""
    for part, count, first in ((names[0], train, 0), (names[1], val, 100)):
        (root / "images" / part).mkdir(parents=True)
        (root / "annotations" / part).mkdir(parents=True)
        for i in range(first, first + count):
            noise(i, 16, 20).save(root / "images" / part / f"{i}.png")
            Image.fromarray(labels_of(i)).save(root / "annotations" / part / f"{i}.png")
    return root
