"""A folder in COCO's layout in, ``Splits`` out: images with boxes, and with masks where every object has one.

``annotations/instances_SPLIT.json`` beside ``images/SPLIT/`` or ``SPLIT/``, where SPLIT begins with train or val.
Labels are 0 to K - 1 in the order of the category ids, which may have gaps. N images, A annotations.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DataError
from ..recipe import DataConfig
from ..types import Objects
from .dataset import BadFile, Progress, Sample, Splits, hold_out
from .decode import UnreadableImage, read_image, read_size
from .rle import TOLERANCE, segmentation_fault, segmentation_mask
from .verify import Size, refuse_bad_files, source_folder, verify_images

EXPECTED_LAYOUT = "annotations/instances_train*.json and the images in images/train*/ or train*/ (COCO's layout)"

_logger = logging.getLogger("metaformer")


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


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """Images with their objects, in COCO's layout. ``len`` counts all images, those without objects included."""

    paths: tuple[Path, ...]
    sizes: np.ndarray
    """(N, 2) int64, height and width."""
    image_ids: tuple[int, ...]
    """The file's own id of each image."""
    category_ids: tuple[int, ...]
    """The file's own id of each label."""
    classes: tuple[str, ...]
    annotations: Annotations
    rows: np.ndarray
    """(N,) int64: the index of each image in ``annotations``."""
    has_masks: bool = False
    """Whether objects are loaded with their masks."""
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The image's path."""
        return str(self.paths[index])

    def load(self, index: int) -> Sample[Objects]:
        """The image, upright ``RGB``, and its objects; raises ``UnreadableImage``."""
        image = read_image(self.paths[index])
        if (image.height, image.width) != tuple(self.sizes[index]):
            raise UnreadableImage(self.name(index), _size_mismatch(self.sizes[index], (image.height, image.width)))
        return Sample(image, self.objects(index))

    def objects(self, index: int) -> Objects:
        """The objects of an image without reading it: no crowds, and boxes clipped to the image."""
        height, width = (int(side) for side in self.sizes[index])
        rows = self.annotations.rows(int(self.rows[index]))
        rows = rows[~self.annotations.crowd[rows]]
        boxes = self.annotations.boxes[rows]
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        corners = corners.clip(0, (width, height, width, height))
        objects: Objects = {
            "boxes": torch.from_numpy(corners.astype(np.float32)),
            "labels": torch.from_numpy(self.annotations.labels[rows]),
            "image_id": torch.tensor(index),
        }
        if self.has_masks:
            masks = [segmentation_mask(self.annotations.segmentation(row), height, width) for row in rows]
            objects["masks"] = torch.from_numpy(np.stack(masks) if masks else np.zeros((0, height, width), np.uint8))
        return objects

    def boxes_only(self) -> CocoDataset:
        """The same images without masks: rasterizing polygons takes longer than reading the image."""
        return replace(self, has_masks=False)

    def subset(self, indices: Sequence[int]) -> CocoDataset:
        """Some of the images as a dataset of their own."""
        return replace(
            self,
            paths=tuple(self.paths[i] for i in indices),
            sizes=self.sizes[indices],
            image_ids=tuple(self.image_ids[i] for i in indices),
            rows=self.rows[indices],
        )

    def concatenate(self, other: CocoDataset) -> CocoDataset:
        """The images of both, with the categories of this one; ``image_id`` is the index in the new dataset."""
        same_file = self.annotations is other.annotations  # both parts of a dataset that was split here
        return replace(
            self,
            paths=self.paths + other.paths,
            sizes=np.concatenate([self.sizes, other.sizes]),
            image_ids=self.image_ids + other.image_ids,
            annotations=self.annotations if same_file else self.annotations.concatenate(other.annotations),
            rows=np.concatenate(
                [self.rows, other.rows if same_file else other.rows + len(self.annotations.starts) - 1]
            ),
            has_masks=self.has_masks and other.has_masks,
        )

    def ground_truth(self) -> dict[str, Any]:
        """All annotations in COCO's format, crowds included, as COCO's evaluation takes them.

        ``image_id`` is an image's index in this dataset and ``category_id`` the label + 1. ``id`` counts from 1 because
        the evaluation takes 0 for "not matched". Segmentations are the file's own; without masks there are none.
        """
        annotations = list(self._ground_truth_annotations())
        return {
            "info": {},
            "images": [
                {"id": index, "height": int(height), "width": int(width), "file_name": self.paths[index].name}
                for index, (height, width) in enumerate(self.sizes)
            ],
            "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, 1)],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(self.classes)],
        }

    def _ground_truth_annotations(self) -> Iterator[dict[str, Any]]:
        table = self.annotations
        for index in range(len(self)):
            for row in table.rows(int(self.rows[index])):
                segmentation = table.segmentation(row) if self.has_masks else None
                annotation = {
                    "image_id": index,
                    "category_id": int(table.labels[row]) + 1,
                    "bbox": [float(number) for number in table.boxes[row]],
                    "area": self._area(index, row, segmentation),
                    "iscrowd": int(table.crowd[row]),
                }
                yield annotation if segmentation is None else annotation | {"segmentation": segmentation}

    def _area(self, index: int, row: int, segmentation: Any) -> float:
        """As in the file; else of the mask; else of the box."""
        area = float(self.annotations.areas[row])
        if isfinite(area):
            return area
        if segmentation is not None:
            height, width = (int(side) for side in self.sizes[index])
            return float(segmentation_mask(segmentation, height, width).sum())
        return float(np.prod(self.annotations.boxes[row, 2:]))


def is_coco_folder(root: Path) -> bool:
    """Whether a folder is in COCO's layout."""
    return bool(_annotation_files(root))


def open_coco(config: DataConfig, progress: Progress | None = None) -> Splits[Objects]:
    """The images and objects below ``config.source``.

    All images and annotations are checked first. A fault is refused, or with ``config.on_bad_image`` "skip" left out:
    an image as a whole, or a single annotation. Without a validation part ``config.val_fraction`` of the images is
    held out.

    Raises:
        DataError: the folder is not in this layout, a part has no image or no object, or there are faults.
    """
    root = source_folder(config, EXPECTED_LAYOUT)
    train_file, val_file = _part_files(root)
    train, bad = _open_part(train_file, root, config, progress)
    val = None
    if val_file is not None:
        val, more = _open_part(val_file, root, config, progress, like=train)
        bad += more
    refuse_bad_files(bad, config, f"{len(bad)} fault{'s' if len(bad) > 1 else ''} in {root}")
    _check_not_empty(train, train_file)
    if val is None:
        kept, held = hold_out(len(train), config)
        train, val = train.subset(kept), train.subset(held)
        _check_not_empty(train, train_file, "the part to train on")
        _check_not_empty(val, train_file, "the part held out")
    elif val_file is not None:
        _check_not_empty(val, val_file)
    masks = _all_have_masks(root, train, val)
    return Splits(
        train=replace(train, has_masks=masks),
        val=replace(val, has_masks=masks),
        classes=train.classes,
        skipped=tuple(bad),
        held_out_here=val_file is None,
        has_masks=masks,
    )


def _annotation_files(root: Path) -> list[Path]:
    return sorted((root / "annotations").glob("instances_*.json"))


def _part_files(root: Path) -> tuple[Path, Path | None]:
    """The file to train on and, where there is one, the file to evaluate on."""
    found = {path: path.stem.removeprefix("instances_").lower() for path in _annotation_files(root)}
    train = [path for path, split in found.items() if split.startswith("train")]
    val = [path for path, split in found.items() if split.startswith("val")]
    for part, files in (("training", train), ("validation", val)):
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise DataError(
                f"{root / 'annotations'} has {len(files)} {part} parts, {names}; expected one. Move one away"
            )
    if not train:
        have = f" It has {', '.join(path.name for path in found)}." if found else ""
        raise DataError(f"{root} has no annotations/instances_train*.json.{have} Expected {EXPECTED_LAYOUT}")
    return train[0], val[0] if val else None


def _open_part(
    file: Path, root: Path, config: DataConfig, progress: Progress | None, like: CocoDataset | None = None
) -> tuple[CocoDataset, list[BadFile]]:
    """One file with its images, and its faults; ``like`` is the part whose categories it must share."""
    document = _document(file)
    categories = _categories(document, file)
    if like is not None:
        categories = _shared_categories(categories, dict(zip(like.category_ids, like.classes, strict=True)), file)
    entries, bad = _image_entries(document, file, _image_folder(root, file, document))
    entries, unreadable = _verified(entries, config, progress)
    labels = {category_id: label for label, category_id in enumerate(categories)}
    annotations, faults = _annotations(document, file, entries, labels)
    dataset = CocoDataset(
        paths=tuple(entry.path for entry in entries),
        sizes=np.array([entry.size for entry in entries], np.int64).reshape(-1, 2),
        image_ids=tuple(entry.image_id for entry in entries),
        category_ids=tuple(categories),
        classes=tuple(categories.values()),
        annotations=annotations,
        rows=np.arange(len(entries)),
        skips_bad=config.on_bad_image == "skip",
    )
    return dataset, bad + unreadable + faults


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


@dataclass(frozen=True)
class _ImageEntry:
    """An image as the file lists it."""

    image_id: int
    path: Path
    size: Size | None
    """Where the file has it."""


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


def _image_entries(document: dict[str, Any], file: Path, folder: Path) -> tuple[list[_ImageEntry], list[BadFile]]:
    entries: list[_ImageEntry] = []
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
            entries.append(_ImageEntry(image_id, path, None if size == (None, None) else size))
        seen_ids.add(image_id)
        ids_by_path.setdefault(path, image_id)
    return entries, bad


def _verified(
    entries: list[_ImageEntry], config: DataConfig, progress: Progress | None
) -> tuple[list[_ImageEntry], list[BadFile]]:
    """The images that can be read and have the size that the file says, and the others."""
    sizes, unreadable = verify_images([entry.path for entry in entries], config, progress)
    reasons = {file.path: file.reason for file in unreadable}
    kept: list[_ImageEntry] = []
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
            reason = _size_mismatch(entry.size, size)
        if reason is None:
            kept.append(replace(entry, size=entry.size or size))
        else:
            bad.append(BadFile(str(entry.path), f"image {entry.image_id}: {reason}"))
    return kept, bad


def _size_mismatch(expected: Sequence[int], actual: Size) -> str:
    """The reason to refuse an image whose size is not the one that its boxes refer to."""
    turned = " (turned on its side, or by its EXIF orientation)" if tuple(expected) == actual[::-1] else ""
    return (
        f"the annotations are for {expected[1]} × {expected[0]} pixels, the image has {actual[1]} × {actual[0]}{turned}"
    )


def _annotations(
    document: dict[str, Any], file: Path, entries: list[_ImageEntry], labels: dict[int, int]
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
    # a box inside the tolerance may still miss the image completely, and nothing of it would be left after clipping
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


def _object_rows(dataset: CocoDataset) -> np.ndarray:
    """The rows of all objects of a part, without crowds."""
    table = dataset.annotations
    rows = np.concatenate([table.rows(int(row)) for row in dataset.rows]) if len(dataset) else np.zeros(0, np.int64)
    return rows[~table.crowd[rows]]


def _check_not_empty(dataset: CocoDataset, file: Path, part: str = "it") -> None:
    if len(dataset) == 0:
        raise DataError(f"{file}: no usable image is left; expected at least one")
    if len(_object_rows(dataset)) == 0:
        raise DataError(
            f"{file}: {part} has {len(dataset)} images and no object in them (crowds do not count); "
            "expected at least one"
        )


def _all_have_masks(root: Path, *parts: CocoDataset) -> bool:
    """Whether every object has a mask. Warns where only some have, because their masks will not be used."""
    with_mask = total = 0
    for dataset in parts:
        rows, ends = _object_rows(dataset), dataset.annotations.ends
        with_mask += int((ends[rows + 1] > ends[rows]).sum())
        total += len(rows)
    if 0 < with_mask < total:
        _logger.warning("%s: %d of %d objects have no mask, so only the boxes are used", root, total - with_mask, total)
    return with_mask == total
