"""How bright is an image? Transform, loss and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from brightness.task import ERROR, true_brightness
from metaformer.data.dataset import Sample
from metaformer.data.transforms.image import evaluation_transform
from metaformer.metrics import LOSS
from metaformer.types import Batch


class WithBrightness:
    """A transform: an image without a label to the model's input and its brightness."""

    def __init__(self, model: Any) -> None:
        self.transform = evaluation_transform(model.preprocessing, model.spec.in_chans)

    def __call__(self, sample: Sample[None]) -> tuple[Tensor, float]:
        return self.transform(sample.input), true_brightness(sample.input)


class BrightnessObjective:
    """Implements ``metaformer.types.Objective``."""

    metrics = (LOSS, ERROR)
    primary = ERROR
    running: tuple[str, ...] = ()

    def forward(self, model: Any, batch: Batch) -> Tensor:
        return model(batch.inputs)[:, 0]

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs.float(), batch.targets)

    def count(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[float, float]]:
        return {}

    def metric(self) -> BrightnessMetric:
        return BrightnessMetric()


class BrightnessMetric:
    def __init__(self) -> None:
        self.part: list[tuple[float, float]] = []

    def update(self, outputs: Tensor, batch: Batch) -> None:
        losses = F.binary_cross_entropy_with_logits(outputs.float(), batch.targets, reduction="none")
        errors = (outputs.sigmoid() - batch.targets).abs()
        self.part += zip(losses.tolist(), errors.tolist(), strict=True)

    def compute(self, parts: Sequence[list[tuple[float, float]]]) -> dict[str, float]:
        losses, errors = zip(*(pair for part in parts for pair in part), strict=True)
        return {"loss": sum(losses) / len(losses), ERROR.name: sum(errors) / len(errors)}
