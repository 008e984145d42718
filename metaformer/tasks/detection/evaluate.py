"""A detector and images with objects in; metrics, a table of classes, curves and samples out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...data.coco import CocoDataset
from ...data.dataset import Dataset
from ...data.transforms.paired import ObjectEvalTransform
from ...model.dense.detector import Detector
from ...render.annotate import draw_detections, shrunk
from ...types import Objects
from ..dense import measure_dense
from ..side_by_side import SIDE, jpeg_base64, sample_indices
from ..task import EvaluationOptions
from .average_precision import AveragePrecision
from .detections import Detections
from .evaluation import DRAWN_FROM, Curve, DetectionEvaluation, ObjectRow, Sample
from .objective import DetectionObjective


def evaluate(
    model: Detector, dataset: CocoDataset, classes: Sequence[str], options: EvaluationOptions
) -> DetectionEvaluation:
    """Evaluate a detector on all images of ``dataset``; masks are evaluated where the model has them.

    Raises:
        DataError: labels beyond the model's classes, a dataset without objects, or an unreadable image.
    """
    masks = bool(model.spec.finds_masks)
    objective = DetectionObjective(dataset.ground_truth(), len(classes), masks)
    used = without_unused_masks(dataset, model)
    measured = measure_dense(model, used, ObjectEvalTransform(), objective, options)
    metric = objective.metric()
    # matched once more, because ``measured`` has the metrics only; it takes seconds
    precisions = [metric.average_precision(measured.parts, kind) for kind in metric.kinds]
    detections = {entry.image_id: entry for part in measured.parts for entry in part}
    return DetectionEvaluation(
        metrics=measured.metrics,
        classes=tuple(classes),
        images=measured.samples,
        table=tuple(_rows(precisions)),
        curves=tuple(curve for precision in precisions for curve in _curves(precision)),
        samples=tuple(_sample(dataset, detections[i], classes) for i in sample_indices(sorted(detections))),
    )


def without_unused_masks(dataset: Dataset[Objects], model: Detector) -> Dataset[Objects]:
    """The dataset without masks where the detector does not use them, since rasterizing them is slow."""
    if isinstance(dataset, CocoDataset) and not model.spec.finds_masks:
        return dataset.boxes_only()
    return dataset


def _rows(precisions: Sequence[AveragePrecision]) -> Iterator[ObjectRow]:
    """A row for each class in the ground truth, with the values of boxes and of masks."""
    values: dict[int, dict[str, Any]] = {}
    for precision in precisions:
        for row in precision.classes:
            named = {f"{precision.kind}_{name}": getattr(row, name) for name in ("ap", "ap50", "ap75", "ar")}
            values.setdefault(row.label, {"label": row.label, "objects": row.objects}).update(named)
    return (ObjectRow(**fields) for fields in values.values())


def _curves(precision: AveragePrecision) -> Iterator[Curve]:
    """The mean curve, then one for each class in the ground truth."""
    for label in (None, *(row.label for row in precision.classes)):
        yield Curve(
            kind=precision.kind,
            label=label,
            iou50=_rounded(precision.curve(label)),
            mean=_rounded(precision.curve(label, iou_50=False)),
        )


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(value, 5) for value in values.tolist())


def _sample(dataset: CocoDataset, detections: Detections, classes: Sequence[str]) -> Sample:
    image, objects = dataset.load(detections.image_id)
    small = shrunk(image, SIDE)
    # one ratio for each axis, since both sides were rounded
    ratio = np.array([small.width / image.width, small.height / image.height] * 2)
    confident = detections[detections.confidence >= DRAWN_FROM]
    labels, masks = confident.class_id.tolist(), confident.mask
    prediction = draw_detections(
        small,
        confident.xyxy * ratio,
        labels,
        classes,
        scores=confident.confidence.tolist(),
        masks=None if masks is None else _shrunk(masks.astype(np.uint8), small.size),
    )
    true_labels = objects["labels"].tolist()
    ground_truth = draw_detections(
        small,
        objects["boxes"].numpy() * ratio,
        true_labels,
        classes,
        masks=None if masks is None else _shrunk(objects["masks"].numpy(), small.size),
    )
    hits = matches(confident.xyxy, labels, objects)
    return Sample(
        name=dataset.name(detections.image_id),
        labels=tuple(sorted({*labels, *true_labels})),
        prediction=jpeg_base64(prediction),
        ground_truth=jpeg_base64(ground_truth),
        objects=len(true_labels),
        found=hits,
        false_positives=len(labels) - hits,
    )


def _shrunk(masks: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(G, H, W) masks resized to ``size``, (w, h), as (G, h, w)."""
    # one by one, since PIL has no stacks; reshape, since an empty list has no sides
    small = [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks]
    return np.array(small, dtype=np.uint8).reshape(-1, size[1], size[0])


def matches(boxes: NDArray[np.float64], labels: Sequence[int], objects: Objects) -> int:
    """The number of correct detections: of the object's class, with an IoU of at least .5; each object matches once.

    ``boxes`` (G, 4) and ``labels`` (G,) are best first.
    """
    unmatched = set(range(len(objects["labels"])))
    true_boxes = objects["boxes"].double().numpy()
    hits = 0
    for box, label in zip(boxes, labels, strict=True):
        overlaps = {i: _iou(box, true_boxes[i]) for i in unmatched if int(objects["labels"][i]) == label}
        best = max(overlaps, key=lambda i: overlaps[i], default=None)
        if best is not None and overlaps[best] >= 0.5:
            unmatched.remove(best)
            hits += 1
    return hits


def _iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    intersection = float(np.prod(sides.clip(0)))  # without clip, two negative sides would give a positive area
    union = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - intersection
    return intersection / union if union > 0 else 0.0
