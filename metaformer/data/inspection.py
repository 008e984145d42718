"""A data set in, what is in it out: counts, sizes, a histogram of its classes, and everything that cannot be right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np

from .annotated import IGNORED
from .coco import CocoDataset
from .decode import UnreadableImage, read_size
from .label_maps import LabelMapDataset
from .sets import ArrayDataset, BadFile, ImageFileDataset, LabeledImages, Progress
from .verify import Size

SMALL, MEDIUM = 32**2, 96**2
"""Pixels of an object's area below which COCO calls it small, and medium."""


@dataclass(frozen=True, kw_only=True)
class ObjectFigures:
    """What is in the images of a detector's part; crowds are counted apart."""

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
class PartFigures:
    """What is in one part of a set."""

    name: Literal["train", "val"]
    images: int
    smallest: Size | None
    """Height and width of the image with the fewest pixels; None where no size is known."""
    median: Size | None
    """The median height and the median width."""
    largest: Size | None
    counts: tuple[int, ...]
    """By label: images, objects or pixels, as the task has them."""
    occurs_in: tuple[int, ...]
    """By label: images that it occurs in."""
    objects: ObjectFigures | None = None
    ignored: float | None = None
    """Share of the pixels that belong to no class."""


def class_figures(
    name: Literal["train", "val"], images: LabeledImages, classes: int, bad: list[BadFile], progress: Progress | None
) -> PartFigures:
    """Images and their sizes, by class."""
    sizes: list[Size] = []
    if isinstance(images, ArrayDataset):
        sizes = [(images.pixels.shape[1], images.pixels.shape[2])] * len(images)
    elif isinstance(images, ImageFileDataset):
        for path in images.paths:
            try:
                sizes.append(read_size(path))
            except UnreadableImage as error:
                bad.append(BadFile(error.name, error.reason))
    counts = _counted(images.labels, classes)
    return PartFigures(name=name, images=len(images), counts=counts, occurs_in=counts, **_extremes(sizes))


def object_figures(
    name: Literal["train", "val"], images: CocoDataset, classes: int, bad: list[BadFile], progress: Progress | None
) -> PartFigures:
    """Objects, by class, and their areas."""
    truth = images.ground_truth()["annotations"]
    objects = [annotation for annotation in truth if not annotation["iscrowd"]]
    labels = [annotation["category_id"] - 1 for annotation in objects]
    places = {(annotation["image_id"], annotation["category_id"] - 1) for annotation in objects}
    in_each = np.bincount([annotation["image_id"] for annotation in objects], minlength=len(images))
    areas = np.array([annotation["area"] for annotation in objects])
    figures = ObjectFigures(
        objects=len(objects),
        crowds=len(truth) - len(objects),
        empty_images=int((in_each == 0).sum()),
        mean=float(in_each.mean()),
        most=int(in_each.max()),
        small=float((areas < SMALL).mean()),
        medium=float(((areas >= SMALL) & (areas < MEDIUM)).mean()),
        large=float((areas >= MEDIUM).mean()),
    )
    return PartFigures(
        name=name,
        images=len(images),
        counts=_counted(labels, classes),
        occurs_in=_counted((label for _, label in places), classes),
        objects=figures,
        **_extremes([(int(height), int(width)) for height, width in images.sizes]),
    )


def pixel_figures(
    name: Literal["train", "val"],
    images: LabelMapDataset,
    classes: int,
    bad: list[BadFile],
    progress: Progress | None,
) -> PartFigures:
    """Pixels, by class."""
    counts, occurs_in = np.zeros(IGNORED + 1, np.int64), np.zeros(IGNORED + 1, np.int64)
    sizes: list[Size] = []
    for index in range(len(images)):
        try:
            label_map = images.label_map(index).numpy()
        except UnreadableImage as error:
            bad.append(BadFile(error.name, error.reason))
            continue
        here = np.bincount(label_map.ravel(), minlength=IGNORED + 1)
        counts, occurs_in = counts + here, occurs_in + (here > 0)
        sizes.append((label_map.shape[0], label_map.shape[1]))
        if progress and (index + 1 == len(images) or index % 64 == 63):
            progress(f"counting pixels of {name}", index + 1, len(images))
    return PartFigures(
        name=name,
        images=len(images),
        counts=tuple(map(int, counts[:classes])),
        occurs_in=tuple(map(int, occurs_in[:classes])),
        ignored=float(counts[IGNORED] / counts.sum()) if counts.sum() else None,
        **_extremes(sizes),
    )


def _counted(labels: Iterable[int], classes: int) -> tuple[int, ...]:
    """How often each label occurs."""
    return tuple(map(int, np.bincount(np.fromiter(labels, np.int64), minlength=classes)))


def _extremes(sizes: Sequence[Size]) -> dict[str, Any]:
    """The smallest, median and largest of images' heights and widths."""
    if not sizes:
        return {"smallest": None, "median": None, "largest": None}
    middle = round(median(height for height, _ in sizes)), round(median(width for _, width in sizes))
    rising = sorted(sizes, key=lambda size: size[0] * size[1])
    return {"smallest": rising[0], "median": middle, "largest": rising[-1]}
