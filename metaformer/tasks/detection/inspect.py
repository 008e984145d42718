"""The summary of a dataset of images with objects."""

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
    """The objects of one part; crowds are counted separately."""

    objects: int
    crowds: int
    empty_images: int
    """Images without an object."""
    mean: float
    """The mean number of objects in an image."""
    most: int
    """The maximum number of objects in an image."""
    small: float
    """Share of the objects below 32² pixels."""
    medium: float
    """Share of the objects from 32² to 96² pixels."""
    large: float
    """Share of the objects above 96² pixels."""


@dataclass(frozen=True, kw_only=True)
class DetectionPartSummary(PartSummary):
    """One part of a dataset with objects; ``counts`` are objects."""

    objects: ObjectSummary

    @property
    def details(self) -> Mapping[str, str]:
        """Numbers of objects, and shares of their sizes."""
        objects = self.objects
        return {
            "objects": count(objects.objects),
            "in an image, mean": f"{objects.mean:.1f}",
            "in an image, most": count(objects.most),
            "images without": count(objects.empty_images),
            "crowds": count(objects.crowds),
            "small, below 32²": percent(objects.small, 1),
            "medium, below 96²": percent(objects.medium, 1),
            "large": percent(objects.large, 1),
        }


def inspect(splits: Splits[Objects], progress: Progress | None = None) -> tuple[DetectionPartSummary, ...]:
    """The objects of each class and their sizes, in both parts."""
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
