"""An ``instances_*.json`` file in COCO's format in; its images, categories and annotations out, and its faults.

Tools write these files with many mistakes, so that everything is checked before a training starts: ids, sizes, boxes,
categories, masks. N images, A annotations.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..recipe import DataConfig
from .dataset import BadFile, Progress
from .decode import UnreadableImage, read_size
from .rle import TOLERANCE, segmentation_fault
from .verify import Size, verify_images


@dataclass(frozen=True, eq=False)
class Annotations:
    """All annotations of a file in columns, image by image.

    As Python objects they would be copied into every worker, page by page, as it counts references to them.
    """

    starts: np.ndarray
    """(N + 1,) int64: image i has rows ``starts[i]`` to ``starts[i + 1]``."""
    boxes: np.ndarray
    """(A, 4) float64 as in the file: left, top, width, height."""
    labels: np.ndarray
    """(A,) int64."""
    crowd: np.ndarray
    """(A,) bool: a region with uncounted objects, which is neither trained on nor counted as an error."""
    areas: np.ndarray
    """(A,) float64, nan where the file has none."""
    segmentations: bytes
    """The segmentations as JSON, one after the other."""
    ends: np.ndarray
    """(A + 1,) int64: row a has ``segmentations[ends[a] : ends[a + 1]]``, which is empty where it has none."""

    def rows(self, image: int) -> np.ndarray:
        """The rows of one image, crowds included."""
        return np.arange(self.starts[image], self.starts[image + 1])

    def segmentation(self, row: int) -> Any:
        """The segmentation as in the file, or None."""
        encoded = self.segmentations[self.ends[row] : self.ends[row + 1]]
        return json.loads(encoded) if encoded else None

    def concatenate(self, other: Annotations) -> Annotations:
        """The annotations of two files; the images of ``other`` come after the N of this one."""
        return Annotations(
            starts=np.concatenate([self.starts, other.starts[1:] + self.starts[-1]]),
            boxes=np.concatenate([self.boxes, other.boxes]),
            labels=np.concatenate([self.labels, other.labels]),
            crowd=np.concatenate([self.crowd, other.crowd]),
            areas=np.concatenate([self.areas, other.areas]),
            segmentations=self.segmentations + other.segmentations,
            ends=np.concatenate([self.ends, other.ends[1:] + self.ends[-1]]),
        )


@dataclass(frozen=True)
class ImageEntry:
    """An image as the file lists it."""

    image_id: int
    path: Path
    size: Size | None
    """Where the file has it."""


@dataclass(frozen=True, eq=False)
class Instances:
    """What can be used of a file, and its faults."""

    images: list[ImageEntry]
    """N images, all of a known size."""
    categories: dict[int, str]
    """Names by the file's own id; the label of a category is its position."""
    annotations: Annotations
    faults: list[BadFile]


def read_instances(
    file: Path, root: Path, config: DataConfig, progress: Progress | None, training: dict[int, str] | None = None
) -> Instances:
    """Read and check a file and its images, which lie below ``root``.

    ``training`` are the categories of the training part, which a validation part must share. Raises ``DataError`` where
    the file as a whole cannot be used.
    """
    document = _document(file)
    categories = _categories(document, file)
    if training is not None:
        categories = _shared_categories(categories, training, file)
    entries, bad = _image_entries(document, file, _image_folder(root, file, document))
    entries, unreadable = _verified(entries, config, progress)
    annotations, faults = _annotations(document, file, entries, {number: i for i, number in enumerate(categories)})
    return Instances(entries, categories, annotations, bad + unreadable + faults)


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}") from None
    for key in ("images", "annotations", "categories"):
        listed = isinstance(document, dict) and document.get(key)
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise DataError(f"{file}: expected a list of mappings under {key!r}, as in COCO's instances files")
    if not document["images"]:
        raise DataError(f"{file} names no image; expected at least one under 'images'")
    return document


def _categories(document: dict[str, Any], file: Path) -> dict[int, str]:
    """Names by category id, sorted by id."""
    names: dict[int, str] = {}
    for category in document["categories"]:
        category_id, name = category.get("id"), category.get("name")
        if type(category_id) is not int or not isinstance(name, str):
            raise DataError(f"{file}: expected categories with an integer id and a name, got {category}")
        if category_id in names:
            raise DataError(f"{file}: category id {category_id} stands for {names[category_id]!r} and for {name!r}")
        if name in names.values():
            raise DataError(f"{file}: two categories are called {name!r}; expected a different name for each")
        names[category_id] = name
    if not names:
        raise DataError(f"{file} names no category; expected at least one under 'categories'")
    return dict(sorted(names.items()))


def _shared_categories(own: dict[int, str], training: dict[int, str], file: Path) -> dict[int, str]:
    """The categories of the training part, unless this part gives other names to the same ids."""
    for category_id, name in own.items():
        if training.get(category_id) != name:
            there = repr(training[category_id]) if category_id in training else "missing"
            raise DataError(
                f"{file}: category id {category_id} is {name!r} here and {there} in the training part. Expected the "
                "same categories in both"
            )
    return training


def _image_folder(root: Path, file: Path, document: dict[str, Any]) -> Path:
    """The folder that has the most of a part's first images: layouts differ in where they put them."""
    split = file.stem.removeprefix("instances_")
    candidates = [root / "images" / split, root / split, root / "images", root]
    names = [str(image.get("file_name")) for image in document["images"][:32]]
    present = [sum((folder / name).is_file() for name in names) for folder in candidates]
    if max(present) == 0:  # all images are missing: report them where they would be expected
        existing = [folder for folder in candidates[:2] if folder.is_dir()]
        return existing[0] if existing else candidates[0]
    return candidates[present.index(max(present))]


def _image_entries(document: dict[str, Any], file: Path, folder: Path) -> tuple[list[ImageEntry], list[BadFile]]:
    entries: list[ImageEntry] = []
    bad: list[BadFile] = []
    seen_ids: set[int] = set()
    ids_by_path: dict[Path, int] = {}
    for image in document["images"]:
        image_id, name = image.get("id"), image.get("file_name")
        if type(image_id) is not int or not isinstance(name, str) or not name:
            bad.append(BadFile(str(file), f"image {image_id}: expected an integer id and a file_name, got {name!r}"))
            continue
        path, size = folder / name, (image.get("height"), image.get("width"))
        if image_id in seen_ids:
            bad.append(BadFile(str(path), f"image {image_id}: another image has this id already"))
        elif path in ids_by_path:
            bad.append(BadFile(str(path), f"image {image_id}: image {ids_by_path[path]} is this file already"))
        elif size != (None, None) and not all(type(side) is int and side > 0 for side in size):
            bad.append(BadFile(str(path), f"image {image_id}: expected a positive height and width, got {size}"))
        else:
            entries.append(ImageEntry(image_id, path, None if size == (None, None) else size))
        seen_ids.add(image_id)
        ids_by_path.setdefault(path, image_id)
    return entries, bad


def _verified(
    entries: list[ImageEntry], config: DataConfig, progress: Progress | None
) -> tuple[list[ImageEntry], list[BadFile]]:
    """The images that can be read and have the size that the file says, and the others."""
    sizes, unreadable = verify_images([entry.path for entry in entries], config, progress)
    reasons = {file.path: file.reason for file in unreadable}
    kept: list[ImageEntry] = []
    bad: list[BadFile] = []
    for entry in entries:
        reason = reasons.get(str(entry.path))
        size = sizes.get(entry.path)
        if size is None and entry.size is None and reason is None:  # not verified, but boxes cannot be used without
            try:
                size = read_size(entry.path)
            except UnreadableImage as error:
                reason = error.reason
        if reason is None and size and entry.size and size != entry.size:
            reason = size_mismatch(entry.size, size)
        if reason is None:
            kept.append(replace(entry, size=entry.size or size))
        else:
            bad.append(BadFile(str(entry.path), f"image {entry.image_id}: {reason}"))
    return kept, bad


def size_mismatch(expected: Sequence[int], actual: Size) -> str:
    """The reason to refuse an image whose size is not the one that its boxes refer to."""
    turned = " (turned on its side, or by its EXIF orientation)" if tuple(expected) == actual[::-1] else ""
    return (
        f"the annotations are for {expected[1]} × {expected[0]} pixels, the image has {actual[1]} × {actual[0]}{turned}"
    )


def _annotations(
    document: dict[str, Any], file: Path, entries: list[ImageEntry], labels: dict[int, int]
) -> tuple[Annotations, list[BadFile]]:
    """The annotations of the images that are kept, without the faulty ones, and the faults of those."""
    index_of = {entry.image_id: index for index, entry in enumerate(entries)}
    listed = {image.get("id") for image in document["images"] if type(image.get("id")) is int}
    by_image: list[list[dict[str, Any]]] = [[] for _ in entries]
    bad: list[BadFile] = []
    seen_ids: set[int] = set()
    for annotation in document["annotations"]:
        number, image_id = annotation.get("id"), annotation.get("image_id")
        index = index_of.get(image_id) if type(image_id) is int else None
        if index is None:
            if type(image_id) is not int or image_id not in listed:
                bad.append(BadFile(str(file), f"annotation {number}: there is no image {image_id}, its image_id"))
            continue  # annotations of an image that is left out go with it and are not faults of their own
        fault = "another annotation has this id already" if number in seen_ids else None
        fault = fault or _annotation_fault(annotation, entries[index].size or (0, 0), labels)
        if fault:
            bad.append(BadFile(str(entries[index].path), f"annotation {number} of image {image_id}: {fault}"))
        else:
            by_image[index].append(annotation)
            seen_ids.add(annotation["id"])
    return _columns(by_image, labels), bad


def _annotation_fault(annotation: dict[str, Any], size: Size, labels: dict[int, int]) -> str | None:
    """What is wrong with an annotation of an image of this size; None where it can be used."""
    height, width = size
    box, category = annotation.get("bbox"), annotation.get("category_id")
    # type() and not isinstance, because JSON's true is an instance of int in Python
    if type(annotation.get("id")) is not int:
        return "expected an integer id"
    if type(category) is not int or category not in labels:
        return f"there is no category {category!r}"
    numbers = isinstance(box, list) and all(type(n) in (int, float) and isfinite(n) for n in box)
    if not isinstance(box, list) or not numbers or len(box) != 4:
        return f"expected a bbox of four numbers (left, top, width, height), got {box}"
    left, top, wide, high = box
    if wide <= 0 or high <= 0:
        return f"its box {box} has no area"
    beyond = max(-left, -top, left + wide - width, top + high - height)
    # a box inside the tolerance may still miss the image completely, and would have no area after clipping
    if beyond > TOLERANCE or min(width - left, height - top, left + wide, top + high) <= 0:
        return f"its box {box} (left, top, width, height) lies outside the image of {width} × {height}"
    segmentation = annotation.get("segmentation")
    return segmentation_fault(segmentation, height, width) if segmentation else None


def _columns(by_image: list[list[dict[str, Any]]], labels: dict[int, int]) -> Annotations:
    rows = [annotation for annotations in by_image for annotation in annotations]
    segmentations = [
        json.dumps(row["segmentation"], separators=(",", ":")).encode() if row.get("segmentation") else b""
        for row in rows
    ]
    return Annotations(
        starts=np.cumsum([0, *map(len, by_image)]),
        boxes=np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4),
        labels=np.array([labels[row["category_id"]] for row in rows], np.int64),
        crowd=np.array([bool(row.get("iscrowd")) for row in rows], bool),
        areas=np.array([_area_or_nan(row.get("area")) for row in rows], np.float64),
        segmentations=b"".join(segmentations),
        ends=np.cumsum([0, *map(len, segmentations)]),
    )


def _area_or_nan(area: Any) -> float:
    return float(area) if type(area) in (int, float) and isfinite(area) and area > 0 else float("nan")
