"""Semantic segmentation: logits and label maps in; a loss, or mean IoU and the IoU of each class out.

Shapes: B batch, K classes, H and W. A label map has labels 0 to K - 1, and ``IGNORED`` for pixels that count neither in
the loss nor in the metrics. All metrics come from one confusion matrix over the whole dataset, so the IoU of a class is
that of all its pixels together, not a mean over images.
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
    """One class for each pixel; implements ``types.Objective``."""

    metrics = METRICS
    primary = MIOU
    running: tuple[str, ...] = ()
    """Empty: an image as a whole is not correct or wrong."""

    def __init__(self, num_classes: int, classes: Sequence[str] = ()) -> None:
        self.num_classes, self.classes = num_classes, tuple(classes)

    def forward(self, model: nn.Module, batch: Batch) -> Tensor | list[Tensor]:
        """Logits (B, K, H, W) in training mode; in evaluation mode a list of (K, H, W), one image at a time."""
        if model.training:
            logits: Tensor = model(batch.inputs)
            return logits
        # images differ in size: padding would change their results, and a batch of full-size logits the memory
        return [model(image[None])[0] for image in batch.inputs]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross entropy of logits (B, K, H, W) against label maps (B, H, W), the mean over all pixels.

        Raises ``DataError`` for labels beyond the K classes.
        """
        _expect_labels(batch.targets, outputs.shape[1])
        total = F.cross_entropy(outputs.float(), batch.targets.long(), ignore_index=IGNORED, reduction="sum")
        # ignored pixels are 0 in the sum but count here: a crop without labels does not divide by zero, and the losses
        # of micro-batches add up to that of the batch
        loss: Tensor = total / batch.targets.numel()
        return loss

    def count(self, outputs: Any, batch: Batch) -> Mapping[str, tuple[float, float]]:
        """An empty mapping."""
        return {}

    def metric(self) -> SegmentationMetric:
        """A new accumulator of loss and confusion matrix."""
        return SegmentationMetric(self.num_classes)


class SegmentationMetric:
    """Sums over images in one float64 tensor: loss, then the confusion matrix row by row."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._total = torch.zeros(1 + num_classes**2, dtype=torch.float64)

    def update(self, outputs: Sequence[Tensor], batch: Batch) -> None:
        """Add logits (K, h, w) of each image and its label map (H, W), at the size of the label map."""
        for image_logits, target in zip(outputs, batch.targets, strict=True):
            _expect_labels(target, self.num_classes)
            logits = resized(image_logits.detach(), (target.shape[-2], target.shape[-1]))
            labeled = target != IGNORED
            predicted, true = logits.argmax(dim=0)[labeled], target[labeled].long()
            loss = F.cross_entropy(logits[None], target[None].long(), ignore_index=IGNORED, reduction="sum")
            cells = torch.bincount(true * self.num_classes + predicted, minlength=self.num_classes**2)
            self._total[0] += loss.double().cpu()
            self._total[1:] += cells.cpu()

    @property
    def part(self) -> Tensor:
        """The sums so far, (1 + K²,) float64 on the CPU; parts of disjoint images can be added."""
        return self._total

    def compute(self, parts: Sequence[Tensor]) -> dict[str, float]:
        """``loss`` (nats per pixel), ``miou``, ``pixel_accuracy`` and ``mean_accuracy``, without ignored pixels.

        Mean IoU is over the classes in the ground truth or the predictions, mean accuracy over the classes in the
        ground truth.
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
        """(K, K) pixels; rows are true classes, columns predicted ones."""
        total = torch.stack(list(parts)).sum(dim=0)
        return total[1:].reshape(self.num_classes, self.num_classes).long()


def class_rows(confusion: Tensor) -> list[ClassRow]:
    """A row for each class, from the confusion matrix (K, K)."""
    rows = []
    pixels = (confusion.diagonal().tolist(), confusion.sum(dim=1).tolist(), confusion.sum(dim=0).tolist())
    for label, (correct, true, predicted) in enumerate(zip(*pixels, strict=True)):
        union = true + predicted - correct
        rows.append(
            ClassRow(
                label=label,
                pixels=int(true),
                predicted=int(predicted),
                iou=correct / union if union else None,
                accuracy=correct / true if true else None,
            )
        )
    return rows


def resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (K, h, w) resized to ``size`` (height, width), bilinear, in float32."""
    # float32 before the resize: under autocast, logits in 16 bits would be interpolated in 16 bits
    if logits.shape[-2:] == size:
        return logits.float()
    return F.interpolate(logits[None].float(), size=size, mode="bilinear", align_corners=False)[0]


def _expect_labels(targets: Tensor, classes: int) -> None:
    # on a GPU, a label beyond the classes is a device-side assertion without the label
    labels = targets[targets != IGNORED]
    low, high = (int(value) for value in torch.aminmax(labels)) if len(labels) else (0, 0)
    if low < 0 or high >= classes:
        raise DataError(
            f"label maps: expected labels from 0 to {classes - 1}, or {IGNORED} where they are ignored, for a model "
            f"with {classes} classes, got {low if low < 0 else high}; build the model with num_classes equal to the "
            "number of classes in the data"
        )
