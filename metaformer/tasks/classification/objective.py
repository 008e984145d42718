"""Classification of images: logits and targets in; a loss, or top-1, top-5 and a confusion matrix out.

Targets are class indices, or probabilities after Mixup and CutMix. The training loss is cross entropy with label
smoothing; the evaluation loss has none, so that runs with different smoothing can be compared. Shapes: B batch,
K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import DataError
from ...types import Batch
from .metrics import METRICS, TOP1

CONFUSION_LIMIT = 2048
"""The maximum number of classes for a confusion matrix: K × K numbers for ImageNet-21K would take 4 GB."""


class ClassificationObjective:
    """One class for each image; implements ``types.Objective``."""

    metrics = METRICS
    primary = TOP1
    running = (TOP1.name,)

    def __init__(self, num_classes: int, label_smoothing: float = 0.0) -> None:
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        logits: Tensor = model(batch.inputs)
        return logits

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy of logits (B, K) against class indices (B,) or probabilities (B, K).

        Raises ``DataError`` for targets beyond the K classes of the model.
        """
        _expect_targets(outputs, batch.targets)
        smoothing = self.label_smoothing if batch.targets.ndim == 1 else 0.0  # Mixup has smoothed probabilities
        # in float32 under autocast too: a sum of exponentials over the classes is too coarse in 16 bits
        return F.cross_entropy(outputs.float(), batch.targets, label_smoothing=smoothing)

    def count(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[Tensor, float]]:
        """Images whose most likely class is correct; empty where targets are probabilities."""
        if batch.targets.ndim != 1:
            return {}
        correct = (outputs.detach().argmax(dim=1) == batch.targets).sum()
        return {TOP1.name: (correct, len(batch))}

    def metric(self) -> ClassificationMetric:
        """A new accumulator of loss, top-1, top-5 and the confusion matrix."""
        return ClassificationMetric(self.num_classes)


class ClassificationMetric:
    """Sums over batches in one float64 tensor: loss, top-1, top-5, images, then the confusion matrix row by row.

    One tensor of counts, which float64 holds exactly, so that parts of processes can be gathered and added.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        cells = num_classes**2 if num_classes <= CONFUSION_LIMIT else 0
        self._total = torch.zeros(4 + cells, dtype=torch.float64)

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Add logits (B, K) and class indices (B,)."""
        _expect_targets(outputs, batch.targets)
        # on the CPU, because MPS has no float64
        logits, targets = outputs.detach().float().cpu(), batch.targets.cpu()
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices
        hits = top == targets[:, None]
        # float64, so that the sum does not depend on the batch size beyond the last digits
        loss = F.cross_entropy(logits.double(), targets, reduction="sum")
        self._total[:4] += torch.stack([loss, hits[:, 0].sum(), hits.sum(), torch.tensor(len(targets))]).double()
        if len(self._total) > 4:
            cells = targets * self.num_classes + top[:, 0]
            self._total[4:] += torch.bincount(cells, minlength=self.num_classes**2)

    @property
    def part(self) -> Tensor:
        """The sums so far, (4 + K²,) float64 on the CPU; parts of disjoint images can be added."""
        return self._total

    def compute(self, parts: Sequence[Tensor]) -> dict[str, float]:
        """``loss`` in nats, ``top1`` and ``top5`` in [0, 1]; with fewer than five classes, top-5 is 1."""
        loss, top1, top5, count = sum(part[:4] for part in parts).tolist()  # type: ignore[union-attr]
        if count == 0:
            raise DataError("expected at least one image to evaluate, got none")
        return {"loss": loss / count, "top1": top1 / count, "top5": top5 / count}

    def confusion(self, parts: Sequence[Tensor]) -> Tensor | None:
        """(K, K) counts; rows are true classes, columns predicted ones. None above ``CONFUSION_LIMIT``."""
        total = torch.stack(list(parts)).sum(dim=0)
        if len(total) == 4:
            return None
        return total[4:].reshape(self.num_classes, self.num_classes).long()


def _expect_targets(outputs: Tensor, targets: Tensor) -> None:
    # on a GPU, a label beyond the classes is a device-side assertion without the label
    if outputs.ndim != 2:
        raise DataError(f"classification: expected logits (B, K), got {tuple(outputs.shape)}")
    classes = outputs.shape[1]
    if targets.ndim == 2:
        if targets.shape[1] != classes:
            raise DataError(f"targets: expected probabilities over {classes} classes, got {targets.shape[1]}")
        return
    low, high = (int(value) for value in torch.aminmax(targets)) if len(targets) else (0, 0)
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise DataError(
            f"targets: expected class indices from 0 to {classes - 1} for a model with {classes} classes, got {wrong}; "
            "build the model with num_classes equal to the number of classes in the data"
        )
