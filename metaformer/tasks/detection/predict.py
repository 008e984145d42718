"""A detector and images in, detections out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from ...data.transforms.paired import detector_input
from ...model.dense.detector import Detector
from ..task import PredictionOptions
from .detections import Detections


def predict(
    model: Detector, images: Sequence[Image.Image], classes: Sequence[str], options: PredictionOptions
) -> list[Detections]:
    """The detections of at least ``options.score`` in each image."""
    results = []
    for image in images:
        with torch.inference_mode():  # one by one: a batch would be padded to its largest image
            (objects,) = model([detector_input(image).to(options.device)])
        masks = "masks" in objects
        results.append(Detections.of(objects, masks=masks, score=options.score, classes=tuple(classes), image=image))
    return results


def coco_results(results: Sequence[Detections], category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """The detections in several images in COCO's results format, with ``file_name``.

    ``image_id`` is the number in the file's name, as in COCO (``000000000139.jpg``), if all names are different
    numbers; otherwise the position of the image, from 1. ``category_ids`` has the category id of each label; by default
    label + 1.
    """
    stems = ["" if image.file is None else image.file.stem for image in results]
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]  # isdigit alone takes ² too
    all_numbered = len(set(numbers)) == len(results)
    entries = []
    for index, image in enumerate(results):
        image_id = numbers[index] if all_numbered else index + 1
        name = {} if image.file is None else {"file_name": image.file.name}
        entries += [entry | {"image_id": image_id} | name for entry in image.to_coco(category_ids=category_ids)]
    return entries
