"""What is in a dataset of images with objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...data.coco import CocoDataset
from ...data.dataset import Dataset, Progress, Splits
from ...data.inspection import PartName, PartSummary, count_labels, size_range
from ...render.numbers import count, percent
from ...types import Objects

# pixels of an object's area below which COCO's evaluation calls it small, and medium
_SMALL, _MEDIUM = 32**2, 96**2


@dataclass(frozen=True, kw_only=True)
class ObjectSummary:
    """The objects of one part; crowds are counted apart."""

    objects: int
    crowds: int
    empty_images: int
    """Images without an object."""
    mean: float
    """Objects in an image."""
    most: int
    small: float
    """Share of the objects below 32² pixels."""
    medium: float
    """Share from there to 96²."""
    large: float


@dataclass(frozen=True, kw_only=True)
class DetectionPartSummary(PartSummary):
    """One part of a dataset with objects; ``counts`` are objects."""

    objects: ObjectSummary

    @property
    def details(self) -> Mapping[str, str]:
        """Counts of objects, and shares of their sizes."""
        found = self.objects
        return {
            "objects": count(found.objects),
            "in an image, mean": f"{found.mean:.1f}",
            "in an image, most": count(found.most),
            "images without": count(found.empty_images),
            "crowds": count(found.crowds),
            "small, below 32²": percent(found.small, 1),
            "medium, below 96²": percent(found.medium, 1),
            "large": percent(found.large, 1),
        }


def inspect(splits: Splits[Objects], progress: Progress | None = None) -> tuple[DetectionPartSummary, ...]:
    """Both parts: objects of each class, and their sizes."""
    classes = len(splits.classes)
    return _summarize("train", splits.train, classes), _summarize("val", splits.val, classes)


def _summarize(name: PartName, dataset: Dataset[Objects], classes: int) -> DetectionPartSummary:
    assert isinstance(dataset, CocoDataset)
    annotations = dataset.ground_truth()["annotations"]
    objects = [annotation for annotation in annotations if not annotation["iscrowd"]]
    in_each = np.bincount([annotation["image_id"] for annotation in objects], minlength=len(dataset))
    areas = np.array([annotation["area"] for annotation in objects])
    pairs = {(annotation["image_id"], annotation["category_id"] - 1) for annotation in objects}
    return DetectionPartSummary(
        name=name,
        images=len(dataset),
        counts=count_labels((annotation["category_id"] - 1 for annotation in objects), classes),
        occurs_in=count_labels((label for _, label in pairs), classes),
        objects=ObjectSummary(
            objects=len(objects),
            crowds=len(annotations) - len(objects),
            empty_images=int((in_each == 0).sum()),
            mean=float(in_each.mean()),
            most=int(in_each.max()),
            small=float((areas < _SMALL).mean()),
            medium=float(((areas >= _SMALL) & (areas < _MEDIUM)).mean()),
            large=float((areas >= _MEDIUM).mean()),
        ),
        **size_range([(int(height), int(width)) for height, width in dataset.sizes]),
    )
