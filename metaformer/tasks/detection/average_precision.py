"""COCO's average precision: a dataset's ground truth and a model's detections to twelve metrics, tables and curves.

The counting is faster-coco-eval's, which matches objects as pycocotools does. Letters: G objects of an image,
K classes, T = 10 overlaps (IoU .50, .55, ... .95), R = 101 recalls (0, .01, ... 1), A areas, M limits of objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from .detections import Detections
from .metrics import AREAS, BOX, LIMITS, MASK, Kind
from .rle import evaluator

RECALLS = np.linspace(0, 1, 101)
"""Where a precision-recall curve is read."""
_IOU_50, _IOU_75 = 0, 5


@dataclass(frozen=True, kw_only=True)
class ClassPrecision:
    """How well objects of one class were found; shares in [0, 1]."""

    label: int
    objects: int
    """In the ground truth, crowds left out."""
    ap: float
    """Mean over the overlaps."""
    ap50: float
    ap75: float
    ar: float
    """Recall with 100 objects an image, mean over the overlaps."""


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """What an evaluation of boxes or of masks came to; -1 stands where the ground truth has no such object."""

    kind: Kind
    precision: NDArray[np.float64]
    """(T, R, K, A, M)."""
    recall: NDArray[np.float64]
    """(T, K, A, M)."""
    objects: NDArray[np.int64]
    """(K,) in the ground truth, crowds left out."""

    @property
    def metrics(self) -> dict[str, float]:
        """COCO's twelve, as ``box_ap``, ``box_ap50``, ..., ``box_ar_1``, ...; areas without an object are left out."""
        whole = self.precision[..., 0, -1]
        values = [_mean(whole), _mean(whole[_IOU_50]), _mean(whole[_IOU_75])]
        values += [_mean(self.precision[..., area, -1]) for area in range(1, len(AREAS))]
        values += [_mean(self.recall[..., 0, place]) for place in range(len(LIMITS))]
        values += [_mean(self.recall[..., area, -1]) for area in range(1, len(AREAS))]
        named = zip(BOX if self.kind == "box" else MASK, values, strict=True)
        return {metric.name: value for metric, value in named if value is not None}

    @property
    def classes(self) -> list[ClassPrecision]:
        """A row for each class that the ground truth has."""
        rows = []
        for label in np.flatnonzero(self.objects).tolist():
            precision = self.precision[:, :, label, 0, -1]
            rows.append(
                ClassPrecision(
                    label=label,
                    objects=int(self.objects[label]),
                    ap=float(precision.mean()),
                    ap50=float(precision[_IOU_50].mean()),
                    ap75=float(precision[_IOU_75].mean()),
                    ar=float(self.recall[:, label, 0, -1].mean()),
                )
            )
        return rows

    def curve(self, label: int | None = None, iou_50: bool = True) -> NDArray[np.float64]:
        """(R,) precision at each of ``RECALLS``, at an overlap of .5 or as the mean over all overlaps: of one class, or
        the mean of those in the ground truth."""
        labels = np.flatnonzero(self.objects) if label is None else np.array([label])
        precision = self.precision[:, :, labels, 0, -1].mean(axis=2)
        return precision[_IOU_50] if iou_50 else precision.mean(axis=0)


def _mean(values: NDArray[np.float64]) -> float | None:
    there = values[values > -1]
    return float(there.mean()) if there.size else None


class GroundTruth:
    """The objects of a set, checked once and never changed: every evaluation works on copies of its entries."""

    def __init__(self, ground_truth: Mapping[str, Any], num_classes: int, masks: bool) -> None:
        self.num_classes = num_classes
        self._images = [dict(image) for image in ground_truth["images"]]
        self.images = {int(image["id"]) for image in self._images}
        entries = ground_truth["annotations"]
        self._objects = [_complete(entry, number) for number, entry in enumerate(entries, start=1)]
        if all(entry["iscrowd"] for entry in self._objects):
            raise DataError(
                "the images to evaluate on: expected at least one object in them, got none, so nothing could be "
                "measured; give validation images with objects"
            )
        wrong = sorted({entry["category_id"] - 1 for entry in self._objects} - set(range(num_classes)))
        if wrong:
            raise DataError(
                f"the images to evaluate on: expected labels from 0 to {num_classes - 1} for a model with "
                f"{num_classes} classes, got {wrong[0]}; build the model with num_classes equal to the data's"
            )
        if masks:
            bare = sum("segmentation" not in entry for entry in self._objects)
            if bare:
                raise DataError(
                    f"the images to evaluate on: expected a mask for every object, {bare} of {len(self._objects)} "
                    "have none; train a detector of boxes on them (retinanet)"
                )

    def evaluate(self, found: Sequence[Detections], kind: Kind) -> AveragePrecision:
        """Match what was found with the ground truth of those images; ``kind`` says by the overlap of what.

        An image that was not looked at, because its file broke since, is left out of the ground truth too.

        Raises:
            DataError: an image that the ground truth does not have, or images without any object.
        """
        seen = {one.image_id for one in found}
        if not seen <= self.images:
            raise DataError(f"detection: the ground truth has no image {min(seen - self.images)}, expected its own")
        entries = [dict(entry) for entry in self._objects if entry["image_id"] in seen]
        labels = [entry["category_id"] - 1 for entry in entries if not entry["iscrowd"]]
        if not labels:
            raise DataError(
                f"detection: expected objects in the {len(seen)} images evaluated, their ground truth has none"
            )
        library = evaluator()
        truth = library.COCO(
            {
                "images": [image for image in self._images if image["id"] in seen],
                "annotations": entries,
                "categories": [{"id": label + 1, "name": str(label)} for label in range(self.num_classes)],
            }
        )
        results = [entry for image in found for entry in image.to_coco(kind)]
        counting = library.COCOeval_faster(truth, truth.loadRes(results), "bbox" if kind == "box" else "segm")
        counting.evaluate()
        counting.accumulate()
        return AveragePrecision(
            kind=kind,
            precision=np.asarray(counting.eval["precision"]),
            recall=np.asarray(counting.eval["recall"]),
            objects=np.bincount(labels, minlength=self.num_classes),
        )


def _complete(entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    """An annotation with what COCO's tools want of it: an id of its own, which must not be 0 ("not matched")."""
    whole = dict(entry) | {"id": number}
    whole["iscrowd"] = int(entry.get("iscrowd", 0))
    whole.setdefault("area", entry["bbox"][2] * entry["bbox"][3])
    return whole
