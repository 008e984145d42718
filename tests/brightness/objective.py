"""How bright is an image? Loss, metric and batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from brightness.task import ERROR, Images, true_brightness
from metaformer.data.decode import read_image
from metaformer.data.loading.seeding import epoch_order
from metaformer.data.transforms.image import evaluation_transform
from metaformer.metrics import LOSS
from metaformer.types import Batch


class Batches:
    """All images at their size, in a new order every epoch where there is a seed."""

    def __init__(self, images: Images, model: Any, size: int, seed: int | None) -> None:
        transform = evaluation_transform(model.preprocessing, model.spec.in_chans)
        self.inputs = torch.stack([transform(read_image(path)) for path in images.paths])
        self.targets = torch.tensor([true_brightness(path) for path in images.paths])
        self.size, self.seed = size, seed

    def __len__(self) -> int:
        return -(-len(self.targets) // self.size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        count = len(self.targets)
        order = torch.arange(count)
        if self.seed is not None:
            order = torch.from_numpy(epoch_order(count, self.seed, epoch))
        for part in order.split(self.size)[start:]:
            yield Batch(self.inputs[part], self.targets[part])

    def close(self) -> None:
        """Nothing is open."""


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
