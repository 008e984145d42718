"""A classifier and labeled images in; metrics, a confusion matrix and sample predictions out. K classes."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from ...data.dataset import LabeledDataset
from ...data.decode import UnreadableImage
from ...data.loading.loader import evaluation_loader
from ...data.loading.schedule import BatchSchedule
from ...model.build import Model
from ...training.evaluation import measure
from ...types import Batch
from ..task import EvaluationOptions
from .evaluation import ClassificationEvaluation, Sample
from .objective import ClassificationMetric, ClassificationObjective

SAMPLES = 24
_THUMBNAIL = 160  # pixels of the long side; larger images would make the page slow to load


def evaluate(
    model: Model, dataset: LabeledDataset, classes: Sequence[str], options: EvaluationOptions
) -> ClassificationEvaluation:
    """Evaluate a classifier on all images, each once.

    Raises ``DataError`` for labels beyond the model's classes and for unreadable images.
    """
    objective = _KeepsPredictions(len(classes))
    loader = evaluation_loader(
        dataset,
        model.preprocessing,
        model.spec.in_chans,
        BatchSchedule(len(dataset), options.batch_size),
        cache=options.cached,
        device=options.device,
        workers=options.workers,
    )
    try:
        measured = measure(
            model.to(options.device),
            objective,
            loader,
            device=options.device,
            autocast=options.autocast,
            each_batch=options.each_batch,
        )
    finally:
        loader.close()
    kept = objective.top_classes
    confusion = kept.confusion(measured.parts)
    return ClassificationEvaluation(
        metrics=measured.metrics,
        classes=tuple(classes),
        images=len(dataset),
        confusion=() if confusion is None else confusion.tolist(),
        samples=tuple(_samples(dataset, kept.top)),
    )


class _KeepsPredictions(ClassificationObjective):
    """Keeps the five most likely classes of each image."""

    def metric(self) -> _TopClasses:
        self.top_classes = _TopClasses(self.num_classes)
        return self.top_classes


class _TopClasses(ClassificationMetric):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.top: list[list[tuple[int, float]]] = []

    def update(self, outputs: Tensor, batch: Batch) -> None:
        super().update(outputs, batch)
        self.top += most_likely(outputs)


def most_likely(logits: Tensor, count: int = 5) -> list[list[tuple[int, float]]]:
    """(class index, probability) pairs for each image from logits (B, K), most likely first."""
    # float: under bf16 autocast, probabilities would have three digits and equal ones would be frequent
    shares, indices = logits.float().softmax(dim=1).cpu().topk(min(count, logits.shape[1]), dim=1)
    return [list(zip(i, s, strict=True)) for i, s in zip(indices.tolist(), shares.tolist(), strict=True)]


def _samples(dataset: LabeledDataset, top: Sequence[Sequence[tuple[int, float]]]) -> list[Sample]:
    """The most confident mistakes, for up to half of the samples, and a random sample of the other images."""
    mistakes = [i for i in range(len(dataset)) if top[i][0][0] != dataset.labels[i]]
    indices = sorted(mistakes, key=lambda i: -top[i][0][1])[: SAMPLES // 2]
    others = [i for i in range(len(dataset)) if i not in set(indices)]
    indices += random.Random(0).sample(others, min(len(others), SAMPLES - len(indices)))
    samples = []
    for i in indices:
        try:
            image = dataset.load(i).input
        except UnreadableImage:
            continue  # another image was evaluated in its place
        classes = tuple((index, round(share, 6)) for index, share in top[i])
        samples.append(Sample(name=dataset.name(i), label=dataset.labels[i], top=classes, thumbnail=thumbnail(image)))
    return samples


def thumbnail(image: Image.Image) -> str:
    """A small PNG as base64."""
    small = image.copy()  # PIL's thumbnail works in place
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
