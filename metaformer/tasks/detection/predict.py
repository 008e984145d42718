"""A detector and images in, detections out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from ...data.transforms.paired import detector_input
from ..task import PredictionOptions
from .detections import Detections


def predict(
    model: Any, images: Sequence[Image.Image], classes: Sequence[str], options: PredictionOptions
) -> list[Detections]:
    """Detections of at least ``options.score`` in each image, one image at a time: they differ in size."""
    found = []
    for image in images:
        with torch.inference_mode():
            (objects,) = model([detector_input(image).to(options.device)])
        masks = "masks" in objects
        found.append(Detections.of(objects, masks=masks, score=options.score, classes=tuple(classes), image=image))
    return found


def coco_results(results: Sequence[Detections], category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """COCO's results of several images, each with its ``file_name``.

    An image's ``image_id`` is the number it is named by, as COCO's images are, or where not all are, its place among
    the results from 1 on. ``category_ids`` is the dataset's own number for each label; label + 1 where left out.
    """
    stems = ["" if one.file is None else one.file.stem for one in results]
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]
    named = len(set(numbers)) == len(results)
    entries = []
    for place, one in enumerate(results):
        image_id = numbers[place] if named else place + 1
        name = {} if one.file is None else {"file_name": one.file.name}
        entries += [entry | {"image_id": image_id} | name for entry in one.to_coco(category_ids=category_ids)]
    return entries
