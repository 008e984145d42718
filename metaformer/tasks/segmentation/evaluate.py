"""A segmenter and images with label maps in; metrics, a table, confusions and samples out. K classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...data.decode import UnreadableImage
from ...data.label_maps import LabelMapDataset
from ...data.transforms.paired import LabelMapEvalTransform
from ...render.annotate import draw_label_map, shrunk
from ...types import IGNORED
from ..dense import measure_dense
from ..side_by_side import SIDE, chosen, encoded
from ..task import EvaluationOptions
from .evaluation import Sample, SegmentationEvaluation
from .objective import SegmentationObjective, class_rows
from .predict import label_map


def evaluate(
    model: Any, dataset: LabelMapDataset, classes: Sequence[str], options: EvaluationOptions
) -> SegmentationEvaluation:
    """Evaluate a segmenter on all images of ``dataset``.

    Raises:
        DataError: label maps that do not fit the model's classes or have no label, or an image that cannot be read.
    """
    objective = SegmentationObjective(len(classes), classes)
    transform = LabelMapEvalTransform(model.spec, model.preprocessing)
    measured = measure_dense(model, dataset, transform, objective, options)
    confusion = objective.metric().confusion(measured.parts)
    return SegmentationEvaluation(
        metrics=measured.metrics,
        classes=tuple(classes),
        images=measured.samples,
        table=tuple(row for row in class_rows(confusion) if row.iou is not None),
        confusion=confusion.tolist(),
        samples=tuple(_samples(model, dataset, options)),
    )


def _samples(model: Any, dataset: LabelMapDataset, options: EvaluationOptions) -> Iterator[Sample]:
    """The images are read and predicted once more, so that no prediction is kept while all are evaluated."""
    for index in chosen(range(len(dataset))):
        try:
            image, truth = dataset.load(index)
        except UnreadableImage:
            continue  # it was left out of the evaluation as well
        predicted, true = label_map(model, image, options.device, options.autocast), truth.numpy()
        counted = true != IGNORED
        right = (predicted == true) & counted
        small = shrunk(image, SIDE)
        drawn, drawn_truth = _shrunk(predicted, small.size), _shrunk(true.astype(np.uint8), small.size)
        yield Sample(
            name=dataset.name(index),
            labels=tuple(sorted({*np.unique(drawn).tolist(), *np.unique(drawn_truth).tolist()} - {IGNORED})),
            prediction=encoded(draw_label_map(small, drawn)),
            ground_truth=encoded(draw_label_map(small, drawn_truth)),
            pixel_accuracy=float(right.sum() / counted.sum()) if counted.any() else None,
        )


def _shrunk(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
