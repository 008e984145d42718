"""A folder in COCO's layout in, ``AnnotatedSplits`` out: images with boxes, and masks where every object has one.

``annotations/instances_SPLIT.json`` beside ``images/SPLIT/`` or ``SPLIT/``, SPLIT beginning with train or val. Labels
are 0 to K - 1 in the order of the category ids, which may have gaps. N images, A annotations.
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
from PIL import Image

from ..errors import DataError
from ..recipe import DataConfig
from ..types import Objects
from .annotated import AnnotatedSplits, annotated_folder, held_out, refuse_faults
from .decode import UnreadableImage, read_image, read_size
from .rle import SLACK, region_fault, region_mask
from .sets import BadFile, Progress
from .verify import look_at

EXPECTED = "annotations/instances_train*.json and the images in images/train*/ or train*/ (COCO's layout)"

_logger = logging.getLogger("metaformer")


@dataclass(frozen=True, eq=False)
class Annotations:
    """All annotations of a file, image by image, in columns: hundreds of thousands of Python objects would be
    copied into every worker as it counts their references."""

    starts: np.ndarray
    """(N + 1,) int64: image i has rows ``starts[i]`` to ``starts[i + 1]``."""
    boxes: np.ndarray
    """(A, 4) float64 as in the file: left, top, width, height."""
    labels: np.ndarray
    """(A,) int64."""
    crowd: np.ndarray
    """(A,) bool: a region with uncounted objects, which nobody is trained on and nobody is blamed for."""
    areas: np.ndarray
    """(A,) float64, nan where the file has none."""
    regions: bytes
    """The segmentations as JSON, one after the other."""
    ends: np.ndarray
    """(A + 1,) int64: segmentation a is ``regions[ends[a] : ends[a + 1]]``; of length 0 where there is none."""

    def rows(self, image: int) -> np.ndarray:
        """The rows of one image, crowds included."""
        return np.arange(self.starts[image], self.starts[image + 1])

    def region(self, row: int) -> Any:
        """The segmentation as in the file, or None."""
        text = self.regions[self.ends[row] : self.ends[row + 1]]
        return json.loads(text) if text else None


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """One part of a set in COCO's layout. ``len`` is its number of images, those without objects included."""

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
    """(N,) int64: which image of the file each is."""
    has_masks: bool = False
    """Whether objects are given with their masks."""
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The image's path."""
        return str(self.paths[index])

    def load(self, index: int) -> tuple[Image.Image, Objects]:
        """The image, upright ``RGB``, and its objects; raises ``UnreadableImage``."""
        image = read_image(self.paths[index])
        if (image.height, image.width) != tuple(self.sizes[index]):
            raise UnreadableImage(self.name(index), _other_size(self.sizes[index], (image.height, image.width)))
        return image, self.objects(index)

    def objects(self, index: int) -> Objects:
        """What is in an image, without reading it: ``Objects`` without crowds, boxes cut at the image's edges."""
        height, width = (int(side) for side in self.sizes[index])
        kept = self.annotations.rows(int(self.rows[index]))
        kept = kept[~self.annotations.crowd[kept]]
        boxes = _corners(self.annotations.boxes[kept]).clip(0, (width, height, width, height))
        found: Objects = {
            "boxes": torch.from_numpy(boxes.astype(np.float32)),
            "labels": torch.from_numpy(self.annotations.labels[kept]),
            "image_id": torch.tensor(index),
        }
        if self.has_masks:
            masks = [region_mask(self.annotations.region(row), height, width) for row in kept]
            found["masks"] = torch.from_numpy(np.stack(masks) if masks else np.zeros((0, height, width), np.uint8))
        return found

    def boxes_only(self) -> CocoDataset:
        """The same images with boxes alone, which saves the filling of masks."""
        return replace(self, has_masks=False)

    def part(self, positions: Sequence[int]) -> CocoDataset:
        """Some of the images as a set of their own."""
        return replace(
            self,
            paths=tuple(self.paths[i] for i in positions),
            sizes=self.sizes[positions],
            image_ids=tuple(self.image_ids[i] for i in positions),
            rows=self.rows[positions],
        )

    def ground_truth(self) -> dict[str, Any]:
        """All annotations in COCO's format, as its evaluation wants them, crowds included.

        ``image_id`` is an image's index in this set, ``category_id`` the label + 1, ``id`` counts from 1 because the
        evaluation takes 0 for "not matched". Segmentations are the file's own; without masks there are none.
        """
        everything = list(self._truths())
        return {
            "info": {},
            "images": [
                {"id": index, "height": int(height), "width": int(width), "file_name": self.paths[index].name}
                for index, (height, width) in enumerate(self.sizes)
            ],
            "annotations": [{"id": number, **truth} for number, truth in enumerate(everything, 1)],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(self.classes)],
        }

    def _truths(self) -> Iterator[dict[str, Any]]:
        table = self.annotations
        for index in range(len(self)):
            for row in table.rows(int(self.rows[index])):
                box = [float(number) for number in table.boxes[row]]
                region = table.region(row) if self.has_masks else None
                truth = {
                    "image_id": index,
                    "category_id": int(table.labels[row]) + 1,
                    "bbox": box,
                    "area": self._area(index, row, region),
                    "iscrowd": int(table.crowd[row]),
                }
                yield truth | ({"segmentation": region} if region is not None else {})

    def _area(self, index: int, row: int, region: Any) -> float:
        """As the file has it; else of the mask; else of the box."""
        area = float(self.annotations.areas[row])
        if isfinite(area):
            return area
        if region is not None:
            height, width = (int(side) for side in self.sizes[index])
            return float(region_mask(region, height, width).sum())
        return float(np.prod(self.annotations.boxes[row, 2:]))


def is_coco_folder(root: Path) -> bool:
    """Whether a folder looks like COCO's layout."""
    return bool(_annotation_files(root))


def open_detection(choice: DataConfig, progress: Progress | None = None) -> AnnotatedSplits:
    """The images and objects below ``choice.source``.

    Everything is looked at before anything is trained on; what cannot be right is refused or left out as
    ``choice.on_bad_image`` says: an image as a whole, or a single annotation. Without a validation part
    ``choice.val_fraction`` of the images are held out.

    Raises:
        DataError: the folder is not in this layout, a part has no image or no object, or there are faults.
    """
    root = annotated_folder(choice, EXPECTED)
    train_file, val_file = _parts(root)
    train, bad = _opened(train_file, root, choice, progress)
    val = None
    if val_file is not None:
        val, more = _opened(val_file, root, choice, progress, like=train)
        bad += more
    refuse_faults(bad, choice, root)
    _check_something(train, train_file)
    if val is None:
        kept, held = held_out(len(train), choice)
        train, val = train.part(kept), train.part(held)
        _check_something(train, train_file, "the part to train on")
        _check_something(val, train_file, "the part held out")
    elif val_file is not None:
        _check_something(val, val_file)
    masks = _all_have_masks(root, train, val)
    return AnnotatedSplits(
        train=replace(train, has_masks=masks),
        val=replace(val, has_masks=masks),
        classes=train.classes,
        skipped=tuple(bad),
        held_out_here=val_file is None,
        has_masks=masks,
    )


def _annotation_files(root: Path) -> list[Path]:
    return sorted((root / "annotations").glob("instances_*.json"))


def _parts(root: Path) -> tuple[Path, Path | None]:
    """The file to train on and, where there is one, the file to evaluate on."""
    found = _annotation_files(root)
    train = [path for path in found if _split(path).startswith("train")]
    val = [path for path in found if _split(path).startswith("val")]
    for part, files in (("training", train), ("validation", val)):
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise DataError(
                f"{root / 'annotations'} has {len(files)} {part} parts, {names}; expected one. Move one away"
            )
    if not train:
        have = f" It has {', '.join(path.name for path in found)}." if found else ""
        raise DataError(f"{root} has no annotations/instances_train*.json.{have} Expected {EXPECTED}")
    return train[0], val[0] if val else None


def _split(file: Path) -> str:
    return file.stem.removeprefix("instances_").lower()


def _opened(
    file: Path, root: Path, choice: DataConfig, progress: Progress | None, like: CocoDataset | None = None
) -> tuple[CocoDataset, list[BadFile]]:
    """One file with its images, and its faults; ``like`` is the part whose categories it must share."""
    document = _document(file)
    categories = _categories(document, file)
    if like is not None:
        categories = _shared(categories, dict(zip(like.category_ids, like.classes, strict=True)), file)
    entries, bad = _entries(document, file, _image_folder(root, file, document))
    entries, more = _looked_at(entries, choice, progress)
    numbers = {number: label for label, number in enumerate(categories)}
    annotations, faults = _annotations(document, file, entries, numbers)
    images = CocoDataset(
        paths=tuple(entry.path for entry in entries),
        sizes=np.array([entry.size for entry in entries], np.int64).reshape(-1, 2),
        image_ids=tuple(entry.number for entry in entries),
        category_ids=tuple(categories),
        classes=tuple(categories.values()),
        annotations=annotations,
        rows=np.arange(len(entries)),
        skips_bad=choice.on_bad_image == "skip",
    )
    return images, bad + more + faults


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
    """Names by category id, rising."""
    names: dict[int, str] = {}
    for category in document["categories"]:
        number, name = category.get("id"), category.get("name")
        if type(number) is not int or not isinstance(name, str):
            raise DataError(f"{file}: expected categories with a whole id and a name, got {category}")
        if number in names:
            raise DataError(f"{file}: category id {number} stands for {names[number]!r} and for {name!r}")
        if name in names.values():
            raise DataError(f"{file}: two categories are called {name!r}; expected a name for each")
        names[number] = name
    if not names:
        raise DataError(f"{file} names no category; expected at least one under 'categories'")
    return dict(sorted(names.items()))


def _shared(own: dict[int, str], training: dict[int, str], file: Path) -> dict[int, str]:
    """The categories of the training part, unless this part means others by the same ids."""
    for number, name in own.items():
        if training.get(number) != name:
            there = repr(training[number]) if number in training else "nothing"
            raise DataError(
                f"{file}: category id {number} is {name!r} here and {there} in the training part. Expected the same "
                "categories in both"
            )
    return training


@dataclass(frozen=True)
class _Entry:
    """An image as the file names it."""

    number: int
    path: Path
    size: tuple[int, int] | None
    """Height and width, where the file has them."""


def _image_folder(root: Path, file: Path, document: dict[str, Any]) -> Path:
    """Where the images of a part lie: the place that has the most of the first of them."""
    split = file.stem.removeprefix("instances_")
    places = [root / "images" / split, root / split, root / "images", root]
    names = [str(image.get("file_name")) for image in document["images"][:32]]
    present = [sum((place / name).is_file() for name in names) for place in places]
    if max(present) == 0:
        existing = [place for place in places[:2] if place.is_dir()]
        return existing[0] if existing else places[0]
    return places[present.index(max(present))]


def _entries(document: dict[str, Any], file: Path, folder: Path) -> tuple[list[_Entry], list[BadFile]]:
    entries: list[_Entry] = []
    bad: list[BadFile] = []
    numbers: set[int] = set()
    files: dict[Path, int] = {}
    for image in document["images"]:
        number, name = image.get("id"), image.get("file_name")
        if type(number) is not int or not isinstance(name, str) or not name:
            bad.append(BadFile(str(file), f"image {number}: expected a whole id and a file_name, got {name!r}"))
            continue
        path, size = folder / name, (image.get("height"), image.get("width"))
        if number in numbers:
            bad.append(BadFile(str(path), f"image {number}: another image has this id already"))
        elif path in files:
            bad.append(BadFile(str(path), f"image {number}: image {files[path]} is this file already"))
        elif size != (None, None) and not all(type(side) is int and side > 0 for side in size):
            bad.append(BadFile(str(path), f"image {number}: expected a height and a width, got {size}"))
        else:
            entries.append(_Entry(number, path, None if size == (None, None) else size))
        numbers.add(number)
        files.setdefault(path, number)
    return entries, bad


def _looked_at(
    entries: list[_Entry], choice: DataConfig, progress: Progress | None
) -> tuple[list[_Entry], list[BadFile]]:
    """The images that can be read and have the size that the file says, and the others."""
    seen, unreadable = look_at([entry.path for entry in entries], choice, progress)
    reasons = {fault.path: fault.reason for fault in unreadable}
    kept: list[_Entry] = []
    bad: list[BadFile] = []
    for entry in entries:
        reason = reasons.get(str(entry.path))
        size = seen.get(entry.path)
        if size is None and entry.size is None and reason is None:  # nobody was to look, but the size must be known
            try:
                size = read_size(entry.path)
            except UnreadableImage as error:
                reason = error.reason
        if reason is None and size and entry.size and size != entry.size:
            reason = _other_size(entry.size, size)
        if reason is None:
            kept.append(replace(entry, size=entry.size or size))
        else:
            bad.append(BadFile(str(entry.path), f"image {entry.number}: {reason}"))
    return kept, bad


def _other_size(said: Sequence[int], is_: tuple[int, int]) -> str:
    """What to say of an image whose size is not the one that its boxes refer to."""
    turned = " (turned on its side, or by its EXIF orientation)" if tuple(said) == is_[::-1] else ""
    return f"the annotations are for {said[1]} × {said[0]} pixels, the image has {is_[1]} × {is_[0]}{turned}"


def _annotations(
    document: dict[str, Any], file: Path, entries: list[_Entry], labels: dict[int, int]
) -> tuple[Annotations, list[BadFile]]:
    """The annotations of the images that are kept, and what is wrong with the others."""
    positions = {entry.number: index for index, entry in enumerate(entries)}
    named = {image.get("id") for image in document["images"] if type(image.get("id")) is int}
    found: list[list[dict[str, Any]]] = [[] for _ in entries]
    bad: list[BadFile] = []
    seen: set[int] = set()
    for annotation in document["annotations"]:
        number, image = annotation.get("id"), annotation.get("image_id")
        at = positions.get(image) if type(image) is int else None
        if at is None:
            if type(image) is not int or image not in named:
                told = f"annotation {number}: there is no image {image}, which it is said to be in"
                bad.append(BadFile(str(file), told))
            continue  # the others went with their image
        fault = "another annotation has this id already" if number in seen else None
        fault = fault or _fault(annotation, entries[at].size or (0, 0), labels)
        if fault:
            bad.append(BadFile(str(entries[at].path), f"annotation {number} of image {image}: {fault}"))
        else:
            found[at].append(annotation)
            seen.add(annotation["id"])
    return _columns(found, labels), bad


def _fault(annotation: dict[str, Any], size: tuple[int, int], labels: dict[int, int]) -> str | None:
    """What is wrong with an annotation of an image of this height and width."""
    height, width = size
    box, category = annotation.get("bbox"), annotation.get("category_id")
    if type(annotation.get("id")) is not int:
        return "expected a whole id"
    if type(category) is not int or category not in labels:
        return f"there is no category {category!r}"
    numbers = isinstance(box, list) and all(type(n) in (int, float) and isfinite(n) for n in box)
    if not isinstance(box, list) or not numbers or len(box) != 4:
        return f"expected a bbox of four numbers (left, top, width, height), got {box}"
    left, top, wide, high = box
    if wide <= 0 or high <= 0:
        return f"its box {box} has no area"
    beyond = max(-left, -top, left + wide - width, top + high - height)
    if beyond > SLACK or min(width - left, height - top, left + wide, top + high) <= 0:
        return f"its box {box} (left, top, width, height) lies outside the image of {width} × {height}"
    region = annotation.get("segmentation")
    return region_fault(region, height, width) if region else None


def _columns(found: list[list[dict[str, Any]]], labels: dict[int, int]) -> Annotations:
    everything = [annotation for listed in found for annotation in listed]
    texts = [_text(annotation.get("segmentation")) for annotation in everything]
    return Annotations(
        starts=np.cumsum([0, *map(len, found)]),
        boxes=np.array([a["bbox"] for a in everything], np.float64).reshape(-1, 4),
        labels=np.array([labels[a["category_id"]] for a in everything], np.int64),
        crowd=np.array([bool(a.get("iscrowd")) for a in everything], bool),
        areas=np.array([_number_or_nan(a.get("area")) for a in everything], np.float64),
        regions=b"".join(texts),
        ends=np.cumsum([0, *map(len, texts)]),
    )


def _text(region: Any) -> bytes:
    return json.dumps(region, separators=(",", ":")).encode() if region else b""


def _number_or_nan(area: Any) -> float:
    return float(area) if type(area) in (int, float) and isfinite(area) and area > 0 else float("nan")


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Left, top, width, height to left, top, right, bottom."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def _own_rows(images: CocoDataset) -> np.ndarray:
    """The rows of all objects of a part, crowds left out."""
    table = images.annotations
    rows = np.concatenate([table.rows(int(row)) for row in images.rows]) if len(images) else np.zeros(0, np.int64)
    return rows[~table.crowd[rows]]


def _check_something(images: CocoDataset, file: Path, part: str = "it") -> None:
    if len(images) == 0:
        raise DataError(f"{file}: no usable image is left; expected at least one")
    if len(_own_rows(images)) == 0:
        raise DataError(
            f"{file}: {part} has {len(images)} images and no object in them (crowds do not count); "
            "expected at least one"
        )


def _all_have_masks(root: Path, *parts: CocoDataset) -> bool:
    """Whether every object has a mask; where only some have, that is told, since it makes the set one of boxes."""
    have = total = 0
    for images in parts:
        rows, ends = _own_rows(images), images.annotations.ends
        have, total = have + int((ends[rows + 1] > ends[rows]).sum()), total + len(rows)
    if 0 < have < total:
        _logger.warning("%s: %d of %d objects have no mask, so it is a set of boxes", root, total - have, total)
    return have == total
