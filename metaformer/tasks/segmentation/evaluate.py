"""A segmenter and images with label maps in; metrics, a table, a confusion matrix and samples out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...data.decode import UnreadableImage
from ...data.label_maps import LabelMapDataset
from ...data.transforms.paired import LabelMapEvalTransform
from ...model.dense.detector import Segmenter
from ...render.annotate import draw_label_map, shrunk
from ...types import IGNORED
from ..dense import measure_dense
from ..side_by_side import SIDE, jpeg_base64, sample_indices
from ..task import EvaluationOptions
from .evaluation import Sample, SegmentationEvaluation
from .objective import SegmentationObjective, class_rows
from .predict import label_map


def evaluate(
    model: Segmenter, dataset: LabelMapDataset, classes: Sequence[str], options: EvaluationOptions
) -> SegmentationEvaluation:
    """Evaluate a segmenter on all images of ``dataset``.

    Raises:
        DataError: labels beyond the model's classes, label maps without labels, or an unreadable image.
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


def _samples(model: Segmenter, dataset: LabelMapDataset, options: EvaluationOptions) -> Iterator[Sample]:
    """Samples, predicted once more: the evaluation keeps no label maps, which would fill the memory."""
    for index in sample_indices(range(len(dataset))):
        try:
            image, target = dataset.load(index)
        except UnreadableImage:
            continue  # the evaluation skipped it too
        predicted, true = label_map(model, image, options.device, options.autocast), target.numpy()
        labeled = true != IGNORED
        correct = (predicted == true) & labeled
        small = shrunk(image, SIDE)
        small_predicted, small_true = _shrunk(predicted, small.size), _shrunk(true.astype(np.uint8), small.size)
        yield Sample(
            name=dataset.name(index),
            labels=tuple(sorted({*np.unique(small_predicted).tolist(), *np.unique(small_true).tolist()} - {IGNORED})),
            prediction=jpeg_base64(draw_label_map(small, small_predicted)),
            ground_truth=jpeg_base64(draw_label_map(small, small_true)),
            pixel_accuracy=float(correct.sum() / labeled.sum()) if labeled.any() else None,
        )


def _shrunk(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    # nearest, since a mean of two labels is another class
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
