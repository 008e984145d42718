"""A folder in COCO's layout in, ``Splits`` out: images with boxes, and with masks where every object has one.

``annotations/instances_SPLIT.json`` beside ``images/SPLIT/`` or ``SPLIT/``, where SPLIT begins with train or val.
Labels are 0 to K - 1 in the order of the category ids, which may have gaps. N images.
"""

from __future__ import annotations

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
from .coco_instances import Annotations, Instances, read_instances, size_mismatch
from .dataset import Progress, Sample, Splits, hold_out
from .decode import UnreadableImage, read_image
from .rle import segmentation_mask
from .verify import refuse_bad_files, source_folder

EXPECTED_LAYOUT = "annotations/instances_train*.json and the images in images/train*/ or train*/ (COCO's layout)"

_logger = logging.getLogger("metaformer")


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

    @classmethod
    def of(cls, instances: Instances, config: DataConfig) -> CocoDataset:
        """The images and annotations of a file, without masks."""
        return cls(
            paths=tuple(entry.path for entry in instances.images),
            sizes=np.array([entry.size for entry in instances.images], np.int64).reshape(-1, 2),
            image_ids=tuple(entry.image_id for entry in instances.images),
            category_ids=tuple(instances.categories),
            classes=tuple(instances.categories.values()),
            annotations=instances.annotations,
            rows=np.arange(len(instances.images)),
            skips_bad=config.on_bad_image == "skip",
        )

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The image's path."""
        return str(self.paths[index])

    def load(self, index: int) -> Sample[Objects]:
        """The image, upright ``RGB``, and its objects; raises ``UnreadableImage``."""
        image = read_image(self.paths[index])
        if (image.height, image.width) != tuple(self.sizes[index]):
            raise UnreadableImage(self.name(index), size_mismatch(self.sizes[index], (image.height, image.width)))
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

    def object_rows(self) -> np.ndarray:
        """The rows of all objects in ``annotations``, without crowds, int64."""
        rows = [self.annotations.rows(int(image)) for image in self.rows]
        found = np.concatenate([np.zeros(0, np.int64), *rows])
        return np.compress(~self.annotations.crowd[found], found)

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
    instances = read_instances(train_file, root, config, progress)
    train, bad = CocoDataset.of(instances, config), instances.faults
    val = None
    if val_file is not None:
        instances = read_instances(val_file, root, config, progress, training=instances.categories)
        val = CocoDataset.of(instances, config)
        bad += instances.faults
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


def _check_not_empty(dataset: CocoDataset, file: Path, part: str = "it") -> None:
    if len(dataset) == 0:
        raise DataError(f"{file}: no usable image is left; expected at least one")
    if len(dataset.object_rows()) == 0:
        raise DataError(
            f"{file}: {part} has {len(dataset)} images and no object in them (crowds do not count); "
            "expected at least one"
        )


def _all_have_masks(root: Path, *parts: CocoDataset) -> bool:
    """Whether every object has a mask. Warns where only some have, because their masks will not be used."""
    with_mask = total = 0
    for dataset in parts:
        rows, ends = dataset.object_rows(), dataset.annotations.ends
        with_mask += int((ends[rows + 1] > ends[rows]).sum())
        total += len(rows)
    if 0 < with_mask < total:
        _logger.warning("%s: %d of %d objects have no mask, so only the boxes are used", root, total - with_mask, total)
    return with_mask == total
