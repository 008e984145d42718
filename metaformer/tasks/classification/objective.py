"""One class for each image: logits and targets to a loss, logits and targets to top-1, top-5 and confusions.

Targets are class indices, or probabilities once images were mixed. The training loss is cross entropy, smoothed
where asked; the evaluation loss is plain cross entropy, so that runs with different smoothing can be compared.
Shapes: B batch, K classes.
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
"""Most classes for which confusions are counted: K × K numbers would fill the memory for ImageNet-21K."""


class ClassificationObjective:
    """A class for each image; implements ``types.Objective``."""

    metrics = METRICS
    primary = TOP1
    running = (TOP1.name,)

    def __init__(self, num_classes: int, label_smoothing: float = 0.0) -> None:
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return model(batch.inputs)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy of logits (B, K) against class indices (B,), smoothed, or against probabilities (B, K).

        Probabilities are taken as they are: mixing has smoothed them already. Raises ``DataError`` when the targets
        do not fit the K classes of the model.
        """
        _expect_targets(outputs, batch.targets)
        smoothing = self.label_smoothing if batch.targets.ndim == 1 else 0.0
        return F.cross_entropy(outputs.float(), batch.targets, label_smoothing=smoothing)

    def count(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[Tensor, float]]:
        """How many images have their class on top; none are counted where the targets are probabilities."""
        if batch.targets.ndim != 1:
            return {}
        right = (outputs.detach().argmax(dim=1) == batch.targets).sum()
        return {TOP1.name: (right, len(batch))}

    def metric(self) -> ClassificationMetric:
        """A fresh accumulator of loss, top-1, top-5 and confusions."""
        return ClassificationMetric(self.num_classes)


class ClassificationMetric:
    """Sums over batches in one float64 tensor: loss, top-1, top-5, images, then the confusions row by row."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        cells = num_classes**2 if num_classes <= CONFUSION_LIMIT else 0
        self._total = torch.zeros(4 + cells, dtype=torch.float64)

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Count logits (B, K) against class indices (B,)."""
        _expect_targets(outputs, batch.targets)
        logits, targets = outputs.detach().float().cpu(), batch.targets.cpu()
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices
        hits = top == targets[:, None]
        loss = F.cross_entropy(logits.double(), targets, reduction="sum")
        self._total[:4] += torch.stack([loss, hits[:, 0].sum(), hits.sum(), torch.tensor(len(targets))]).double()
        if len(self._total) > 4:
            cells = targets * self.num_classes + top[:, 0]
            self._total[4:] += torch.bincount(cells, minlength=self.num_classes**2)

    @property
    def part(self) -> Tensor:
        """Everything counted so far, (4 + K²,) in float64 on the CPU; disjoint parts add up."""
        return self._total

    def compute(self, parts: Sequence[Tensor]) -> dict[str, float]:
        """``loss`` (nats), ``top1`` and ``top5`` (shares in [0, 1]; top5 is top-K below five classes)."""
        loss, top1, top5, count = sum(part[:4] for part in parts).tolist()  # type: ignore[union-attr]
        if count == 0:
            raise DataError("expected at least one image to evaluate, got none")
        return {"loss": loss / count, "top1": top1 / count, "top5": top5 / count}

    def confusion(self, parts: Sequence[Tensor]) -> Tensor | None:
        """(K, K) counts, rows are true classes and columns predicted ones; None above ``CONFUSION_LIMIT``."""
        total = torch.stack(list(parts)).sum(dim=0)
        if len(total) == 4:
            return None
        return total[4:].reshape(self.num_classes, self.num_classes).long()


def _expect_targets(outputs: Tensor, targets: Tensor) -> None:
    """Refuse labels the model has no class for, before they become an index error deep inside a kernel."""
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
