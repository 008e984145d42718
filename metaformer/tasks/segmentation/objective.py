"""A class for each pixel: logits and label maps to a loss, to mean IoU and to the IoU of each class.

Shapes: B batch, K classes, H and W. A label map has classes 0 to K - 1 and ``IGNORED`` where there is nothing to learn
and nothing to be judged. All metrics follow from one matrix of confusions over the whole set, so a rare class counts by
all its pixels together and not once an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import DataError
from ...types import IGNORED, Batch
from .evaluation import ClassRow
from .metrics import METRICS, MIOU


class SegmentationObjective:
    """A class for each pixel; implements ``types.Objective``."""

    metrics = METRICS
    primary = MIOU
    running: tuple[str, ...] = ()
    """An image is not right or wrong."""

    def __init__(self, num_classes: int, classes: Sequence[str] = ()) -> None:
        self.num_classes, self.classes = num_classes, tuple(classes)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor | list[Tensor]:
        """Logits (B, K, H, W) in training mode; in evaluation mode (K, H, W) of each image by itself, at its input's
        size: what it scores depends on no neighbor, and only one image at a time is held in its full size."""
        if model.training:
            return model(batch.inputs)
        return [model(image[None])[0] for image in batch.inputs]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross entropy of logits (B, K, H, W) against label maps (B, H, W), a mean over all pixels.

        Ignored pixels add nothing and are counted: thus a crop without any label is no division by zero, and parts of
        a batch add up to the batch however it is cut. Raises ``DataError`` when labels do not fit the K classes.
        """
        _expect_labels(batch.targets, outputs.shape[1])
        total = F.cross_entropy(outputs.float(), batch.targets.long(), ignore_index=IGNORED, reduction="sum")
        return total / batch.targets.numel()

    def count(self, outputs: Any, batch: Batch) -> Mapping[str, tuple[float, float]]:
        """None."""
        return {}

    def metric(self) -> SegmentationMetric:
        """A fresh accumulator of loss and confusions."""
        return SegmentationMetric(self.num_classes)


class SegmentationMetric:
    """Sums over images in one float64 tensor: loss, then the confusions row by row."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._total = torch.zeros(1 + num_classes**2, dtype=torch.float64)

    def update(self, outputs: Sequence[Tensor], batch: Batch) -> None:
        """Count logits (K, h, w) of each image against its label map (H, W), in the label map's size."""
        for logits, target in zip(outputs, batch.targets, strict=True):
            self._count(logits.detach(), target)

    def _count(self, logits: Tensor, target: Tensor) -> None:
        _expect_labels(target, self.num_classes)
        scores = resized(logits, (target.shape[-2], target.shape[-1]))
        counted = target != IGNORED
        found, truth = scores.argmax(dim=0)[counted], target[counted].long()
        loss = F.cross_entropy(scores[None], target[None].long(), ignore_index=IGNORED, reduction="sum")
        cells = torch.bincount(truth * self.num_classes + found, minlength=self.num_classes**2)
        self._total[0] += loss.double().cpu()
        self._total[1:] += cells.cpu()

    @property
    def part(self) -> Tensor:
        """Everything counted so far, (1 + K²,) in float64 on the CPU; disjoint parts add up."""
        return self._total

    def compute(self, parts: Sequence[Tensor]) -> dict[str, float]:
        """``loss`` (nats a pixel), ``miou``, ``pixel_accuracy`` and ``mean_accuracy``, over the pixels not ignored.

        The two means are over classes: mean IoU over those that occur in the ground truth or in the predictions, mean
        accuracy over those in the ground truth.
        """
        confusion = self.confusion(parts).double()
        if confusion.sum() == 0:
            raise DataError("expected at least one labeled pixel to evaluate, got none")
        loss = sum(float(part[0]) for part in parts) / float(confusion.sum())
        rows = class_rows(confusion)
        overlaps = [row.iou for row in rows if row.iou is not None]
        accuracies = [row.accuracy for row in rows if row.accuracy is not None]
        return {
            "loss": loss,
            "miou": sum(overlaps) / len(overlaps),
            "pixel_accuracy": float(confusion.trace() / confusion.sum()),
            "mean_accuracy": sum(accuracies) / len(accuracies),
        }

    def confusion(self, parts: Sequence[Tensor]) -> Tensor:
        """(K, K) pixels, rows are true classes and columns predicted ones."""
        total = torch.stack(list(parts)).sum(dim=0)
        return total[1:].reshape(self.num_classes, self.num_classes).long()


def class_rows(confusion: Tensor) -> list[ClassRow]:
    """A row for each class from the confusions (K, K)."""
    rows = []
    right, truth, predictions = (
        confusion.diagonal().tolist(),
        confusion.sum(dim=1).tolist(),
        confusion.sum(dim=0).tolist(),
    )
    for label, (hits, true, predicted) in enumerate(zip(right, truth, predictions, strict=True)):
        union = true + predicted - hits
        rows.append(
            ClassRow(
                label=label,
                pixels=int(true),
                predicted=int(predicted),
                iou=hits / union if union else None,
                accuracy=hits / true if true else None,
            )
        )
    return rows


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (K, h, w) at another height and width, bilinear between the centers of pixels, in float32."""
    if logits.shape[-2:] == size:
        return logits.float()
    return F.interpolate(logits[None].float(), size=size, mode="bilinear", align_corners=False)[0]


def _expect_labels(targets: Tensor, classes: int) -> None:
    """Refuse labels the model has no class for, before they become an index error deep inside a kernel."""
    labels = targets[targets != IGNORED]
    low, high = (int(value) for value in torch.aminmax(labels)) if len(labels) else (0, 0)
    if low < 0 or high >= classes:
        raise DataError(
            f"label maps: expected labels from 0 to {classes - 1}, or {IGNORED} where they are ignored, for a model "
            f"with {classes} classes, got {low if low < 0 else high}; build the model with num_classes equal to the "
            "number of classes in the data"
        )
