"""A detector and images with objects in; metrics, a table, curves and samples out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...data.coco import CocoDataset
from ...data.dataset import Dataset
from ...data.transforms.paired import ObjectEvalTransform
from ...render.annotate import draw_detections, shrunk
from ...types import Objects
from ..dense import measure_dense
from ..side_by_side import SIDE, chosen, encoded
from ..task import EvaluationOptions
from .average_precision import AveragePrecision
from .detections import Detections
from .evaluation import DRAWN_FROM, Curve, DetectionEvaluation, ObjectRow, Sample
from .objective import DetectionObjective


def evaluate(
    model: Any, dataset: CocoDataset, classes: Sequence[str], options: EvaluationOptions
) -> DetectionEvaluation:
    """Evaluate a detector on all images of ``dataset``; masks are judged where the model finds masks.

    Raises:
        DataError: labels that do not fit the model's classes, no object to find, or an image that cannot be read.
    """
    masks = bool(model.spec.finds_masks)
    objective = DetectionObjective(dataset.ground_truth(), len(classes), masks)
    used = without_unused_masks(dataset, model)
    measured = measure_dense(model, used, ObjectEvalTransform(), objective, options)
    metric = objective.metric()
    judged = [metric.matched(measured.parts, kind) for kind in metric.kinds]
    found = {entry.image_id: entry for part in measured.parts for entry in part}
    return DetectionEvaluation(
        metrics=measured.metrics,
        classes=tuple(classes),
        images=measured.samples,
        table=tuple(_rows(judged)),
        curves=tuple(curve for one in judged for curve in _curves(one)),
        samples=tuple(_sample(dataset, found[i], classes) for i in chosen(sorted(found))),
    )


def without_unused_masks(dataset: Dataset[Objects], model: Any) -> Dataset[Objects]:
    """The dataset without masks where the detector has no use for them, because rasterizing them takes long."""
    if isinstance(dataset, CocoDataset) and not model.spec.finds_masks:
        return dataset.boxes_only()
    return dataset


def _rows(judged: Sequence[AveragePrecision]) -> Iterator[ObjectRow]:
    """A row for each class that the ground truth has, boxes and masks side by side."""
    values: dict[int, dict[str, Any]] = {}
    for one in judged:
        for row in one.classes:
            named = {f"{one.kind}_{name}": getattr(row, name) for name in ("ap", "ap50", "ap75", "ar")}
            values.setdefault(row.label, {"label": row.label, "objects": row.objects}).update(named)
    return (ObjectRow(**fields) for fields in values.values())


def _curves(judged: AveragePrecision) -> Iterator[Curve]:
    for label in (None, *(row.label for row in judged.classes)):
        yield Curve(
            kind=judged.kind,
            label=label,
            iou50=_rounded(judged.curve(label)),
            mean=_rounded(judged.curve(label, iou_50=False)),
        )


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(value, 5) for value in values.tolist())


def _sample(dataset: CocoDataset, found: Detections, classes: Sequence[str]) -> Sample:
    image, truth = dataset.load(found.image_id)
    small = shrunk(image, SIDE)
    ratio = np.array([small.width / image.width, small.height / image.height] * 2)
    sure = found[found.confidence >= DRAWN_FROM]
    labels, masks = sure.class_id.tolist(), sure.mask
    prediction = draw_detections(
        small,
        sure.xyxy * ratio,
        labels,
        classes,
        scores=sure.confidence.tolist(),
        masks=None if masks is None else _shrunk(masks.astype(np.uint8), small.size),
    )
    true = truth["labels"].tolist()
    ground_truth = draw_detections(
        small,
        truth["boxes"].numpy() * ratio,
        true,
        classes,
        masks=None if masks is None else _shrunk(truth["masks"].numpy(), small.size),
    )
    hits = matches(sure.xyxy, labels, truth)
    return Sample(
        name=dataset.name(found.image_id),
        labels=tuple(sorted({*labels, *true})),
        prediction=encoded(prediction),
        ground_truth=encoded(ground_truth),
        objects=len(true),
        found=hits,
        false_positives=len(labels) - hits,
    )


def _shrunk(masks: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(G, h, w) masks in a sample's size, (w, h)."""
    small = [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks]
    return np.array(small, dtype=np.uint8).reshape(-1, size[1], size[0])


def matches(boxes: NDArray[np.float64], labels: Sequence[int], truth: Objects) -> int:
    """How many detections are right: of an object's class, overlapping it by at least .5, each object once.

    ``boxes`` (G, 4) and ``labels`` (G,) are best first.
    """
    free = set(range(len(truth["labels"])))
    real = truth["boxes"].double().numpy()
    hits = 0
    for box, label in zip(boxes, labels, strict=True):
        overlaps = {i: _iou(box, real[i]) for i in free if int(truth["labels"][i]) == label}
        best = max(overlaps, key=lambda i: overlaps[i], default=None)
        if best is not None and overlaps[best] >= 0.5:
            free.remove(best)
            hits += 1
    return hits


def _iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(sides.clip(0)))
    union = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common
    return common / union if union > 0 else 0.0
