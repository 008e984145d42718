"""Objects and detections made up for the tests: overlapping, crowded, empty, of all sizes, as COCO's json has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as reference

from metaformer.types import Batch, Objects

SIDE = 240
CLASSES = 4


def ellipse(box: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The largest ellipse in a box, as a mask of the whole image."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    left, top, right, bottom = box
    across = (columns - (left + right) / 2) / max((right - left) / 2, 0.5)
    down = (rows - (top + bottom) / 2) / max((bottom - top) / 2, 0.5)
    return (across**2 + down**2 <= 1).astype(np.uint8)


def boxes(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(count, 4) left, top, right, bottom from 8 to 220 pixels wide."""
    sides = np.exp(random.uniform(np.log(8), np.log(220), (count, 2)))
    corners = random.uniform(0, 1, (count, 2)) * (SIDE - sides)
    return np.concatenate([corners, corners + sides], axis=1)


def ground_truth(images: int = 12, seed: int = 0) -> dict[str, Any]:
    """Some images are empty, some objects are crowds; class 3 never occurs."""
    random = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    for image in range(images):
        for box in boxes(random, 0 if image % 5 == 4 else int(random.integers(1, 7))):
            run = reference.encode(np.asfortranarray(ellipse(box)))
            left, top, right, bottom = box.tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image, "category_id": int(random.integers(1, CLASSES)),
                    "bbox": [left, top, right - left, bottom - top], "area": float(reference.area(run)),
                    "iscrowd": int(random.random() < 0.15),
                    "segmentation": {"size": run["size"], "counts": run["counts"].decode()},
                }
            )  # fmt: skip
    return {
        "images": [{"id": image, "height": SIDE, "width": SIDE} for image in range(images)],
        "annotations": annotations,
        "categories": [{"id": label + 1, "name": f"class {label}"} for label in range(CLASSES)],
    }


def detections(truth: dict[str, Any], seed: int = 1) -> list[Objects]:
    """What a middling detector would find: shifted copies, other classes, false positives, ties in scores."""
    random = np.random.default_rng(seed)
    every = []
    for image in truth["images"]:
        found, labels = [], []
        for entry in truth["annotations"]:
            if entry["image_id"] == image["id"]:
                left, top, width, height = entry["bbox"]
                box = np.array([left, top, left + width, top + height])
                for _ in range(int(random.integers(0, 4))):
                    found.append(box + random.normal(0, 0.06, 4) * [width, height, width, height])
                    labels.append(entry["category_id"] - 1 if random.random() < 0.8 else random.integers(CLASSES))
        extra = int(random.integers(0, 4)) if image["id"] % 4 else 0
        found += list(boxes(random, extra))
        labels += random.integers(0, CLASSES, extra).tolist()
        every.append(_objects(found, labels, np.round(random.random(len(found)), 1)))
    return every


def _objects(found: list[NDArray[np.float64]], labels: list[int], scores: NDArray[np.float64]) -> Objects:
    order = np.argsort(-scores, kind="stable")
    placed = np.clip(np.array(found).reshape(-1, 4)[order], 0, SIDE)
    soft = [0.9 * ellipse(box) + 0.05 for box in placed]
    return {
        "boxes": torch.tensor(placed, dtype=torch.float32),
        "labels": torch.tensor(np.array(labels, dtype=np.int64)[order]),
        "scores": torch.tensor(scores[order], dtype=torch.float32),
        "masks": torch.tensor(np.array(soft).reshape(-1, SIDE, SIDE), dtype=torch.float32),
    }


def batch(images: range | list[int]) -> Batch:
    """Images as the evaluation loader gives them, of which a metric reads the ``image_id`` alone."""
    return Batch([torch.zeros(3, 2, 2) for _ in images], [{"image_id": torch.tensor(image)} for image in images])
