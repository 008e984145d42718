"""COCO's average precision: a dataset's ground truth and a model's detections in; twelve metrics, tables, curves out.

Detections are matched by faster-coco-eval, with the same results as pycocotools. Letters: G objects of an image,
K classes, T = 10 overlaps (IoU .50, .55, ... .95), R = 101 recalls (0, .01, ... 1), A areas, M limits of detections.
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
"""The recalls at which a precision-recall curve is sampled."""
_IOU_50, _IOU_75 = 0, 5  # indices along T


@dataclass(frozen=True, kw_only=True)
class ClassPrecision:
    """Average precision and recall of one class, in [0, 1]."""

    label: int
    objects: int
    """Objects in the ground truth, without crowds."""
    ap: float
    """Mean over the overlaps."""
    ap50: float
    ap75: float
    ar: float
    """Recall with up to 100 detections per image, mean over the overlaps."""


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """The results for boxes or for masks; -1 where the ground truth has no object of that class and area."""

    kind: Kind
    precision: NDArray[np.float64]
    """(T, R, K, A, M)."""
    recall: NDArray[np.float64]
    """(T, K, A, M)."""
    objects: NDArray[np.int64]
    """(K,) objects in the ground truth, without crowds."""

    @property
    def metrics(self) -> dict[str, float]:
        """COCO's twelve metrics, as ``box_ap``, ``box_ap50``, ..., ``box_ar_1``, ...; without areas of no object."""
        all_areas = self.precision[..., 0, -1]  # and up to 100 detections
        values = [_mean(all_areas), _mean(all_areas[_IOU_50]), _mean(all_areas[_IOU_75])]
        values += [_mean(self.precision[..., area, -1]) for area in range(1, len(AREAS))]
        values += [_mean(self.recall[..., 0, limit]) for limit in range(len(LIMITS))]
        values += [_mean(self.recall[..., area, -1]) for area in range(1, len(AREAS))]
        named = zip(BOX if self.kind == "box" else MASK, values, strict=True)
        return {metric.name: value for metric, value in named if value is not None}

    @property
    def classes(self) -> list[ClassPrecision]:
        """A row for each class in the ground truth."""
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
        """(R,) precision at each of ``RECALLS``, for an overlap of .5 or averaged over all overlaps.

        ``label`` selects a class; None averages over the classes in the ground truth.
        """
        labels = np.flatnonzero(self.objects) if label is None else np.array([label])
        precision = self.precision[:, :, labels, 0, -1].mean(axis=2)
        return precision[_IOU_50] if iou_50 else precision.mean(axis=0)


def _mean(values: NDArray[np.float64]) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


class GroundTruth:
    """The objects of a dataset in COCO's format, checked once.

    faster-coco-eval adds fields to the entries that it gets, so each evaluation works on copies.
    """

    def __init__(self, ground_truth: Mapping[str, Any], num_classes: int, masks: bool) -> None:
        self.num_classes = num_classes
        self._images = [dict(image) for image in ground_truth["images"]]
        self.images = {int(image["id"]) for image in self._images}
        entries = ground_truth["annotations"]
        self._objects = [_complete(entry, number) for number, entry in enumerate(entries, start=1)]
        if all(entry["iscrowd"] for entry in self._objects):
            raise DataError(
                "the images to evaluate on: expected at least one object in them, got none; "
                "pass validation images with objects"
            )
        # a category's id is its label + 1, because COCO's ids start at 1
        wrong = sorted({entry["category_id"] - 1 for entry in self._objects} - set(range(num_classes)))
        if wrong:
            raise DataError(
                f"the images to evaluate on: expected labels from 0 to {num_classes - 1} for a model with "
                f"{num_classes} classes, got {wrong[0]}; build the model with num_classes equal to the data's"
            )
        if masks:
            without = sum("segmentation" not in entry for entry in self._objects)
            if without:
                raise DataError(
                    f"the images to evaluate on: expected a mask for every object, {without} of {len(self._objects)} "
                    "have none; train a detector of boxes on them (retinanet)"
                )

    def evaluate(self, detections: Sequence[Detections], kind: Kind) -> AveragePrecision:
        """Match detections with the ground truth of their images, by the overlap of boxes or of masks.

        Raises:
            DataError: an image that the ground truth does not have, or images without objects.
        """
        # images without detections' entry were unreadable and skipped; their objects must not count as missed
        evaluated = {image.image_id for image in detections}
        if not evaluated <= self.images:
            unknown = min(evaluated - self.images)
            raise DataError(f"detection: image {unknown} is not in the ground truth; pass the dataset's own images")
        entries = [dict(entry) for entry in self._objects if entry["image_id"] in evaluated]
        labels = [entry["category_id"] - 1 for entry in entries if not entry["iscrowd"]]
        if not labels:
            raise DataError(
                f"detection: expected objects in the {len(evaluated)} evaluated images, their ground truth has none"
            )
        library = evaluator()
        ground_truth = library.COCO(
            {
                "images": [image for image in self._images if image["id"] in evaluated],
                "annotations": entries,
                "categories": [{"id": label + 1, "name": str(label)} for label in range(self.num_classes)],
            }
        )
        results = [entry for image in detections for entry in image.to_coco(kind)]
        matcher = library.COCOeval_faster(
            ground_truth, ground_truth.loadRes(results), "bbox" if kind == "box" else "segm"
        )
        matcher.evaluate()
        matcher.accumulate()
        return AveragePrecision(
            kind=kind,
            precision=np.asarray(matcher.eval["precision"]),
            recall=np.asarray(matcher.eval["recall"]),
            objects=np.bincount(labels, minlength=self.num_classes),
        )


def _complete(entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    """An annotation with all fields that COCO's tools need."""
    complete = dict(entry) | {"id": number}  # from 1, because the tools mark an unmatched detection with id 0
    complete["iscrowd"] = int(entry.get("iscrowd", 0))
    complete.setdefault("area", entry["bbox"][2] * entry["bbox"][3])
    return complete
