"""Objects in images: a detector's losses to one loss, its boxes and masks to COCO's average precision.

A detector computes its losses itself while it trains, because they follow from which of its own proposals are near
the ground truth; this module adds them up. Metrics are those of ``average_precision``. Shapes: G objects, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import DataError
from ...types import Batch, Objects
from .average_precision import AveragePrecision, GroundTruth
from .detections import Detections
from .metrics import BOX, BOX_AP, MASK, MASK_AP, Kind
from .rle import evaluator


class DetectionObjective:
    """Boxes of objects and, with ``masks``, their pixels; implements ``types.Objective``.

    Args:
        ground_truth: the evaluation images' objects as COCO's json has them, an image's id its index in the set,
            a category's id its label + 1; crowds are neither found nor missed. None where only losses are wanted.
        num_classes: K, without background.
        masks: whether masks are judged beside boxes, and decide which weights are the best.

    Raises:
        DataError: a ground truth without an object, with a label beyond K, or without masks where they are wanted.
        MissingExtraError: faster-coco-eval is not installed.
    """

    running: tuple[str, ...] = ()
    """An image is not right or wrong."""

    def __init__(self, ground_truth: Mapping[str, Any] | None, num_classes: int, masks: bool) -> None:
        self.num_classes, self.masks = num_classes, masks
        self.primary = MASK_AP if masks else BOX_AP
        self.metrics = BOX + MASK if masks else BOX
        self._ground_truth = None
        if ground_truth is not None:
            evaluator()  # a missing library is reported before the first epoch, not after it
            self._ground_truth = GroundTruth(ground_truth, num_classes, masks)

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor] | list[Objects]:
        """Losses by name in training mode; in evaluation mode what was found in each image, best first.

        Raises ``DataError`` when a label has no class in the model.
        """
        if not model.training:
            return model(batch.inputs)
        _expect_labels(batch.targets, self.num_classes)
        return model(batch.inputs, batch.targets)

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """The sum of the losses, a scalar."""
        return torch.stack([loss.float() for loss in outputs.values()]).sum()

    def count(self, outputs: Any, batch: Batch) -> Mapping[str, tuple[float, float]]:
        """None."""
        return {}

    def metric(self) -> DetectionMetric:
        """A fresh accumulator of what was found."""
        if self._ground_truth is None:
            raise DataError("detection: no ground truth was given, so nothing can be evaluated")
        return DetectionMetric(self._ground_truth, self.masks)


class DetectionMetric:
    """Keeps what was found in each image, masks as run lengths, until all of them are matched at once."""

    def __init__(self, ground_truth: GroundTruth, masks: bool) -> None:
        self.ground_truth = ground_truth
        self.kinds: tuple[Kind, ...] = ("box", "mask") if masks else ("box",)
        self._found: list[Detections] = []

    def update(self, outputs: Sequence[Objects], batch: Batch) -> None:
        """Take what was found in the images of a batch, whose targets have their ``image_id``."""
        for objects, target in zip(outputs, batch.targets, strict=True):
            self._found.append(Detections.of(objects, int(target["image_id"]), masks="mask" in self.kinds))

    @property
    def part(self) -> list[Detections]:
        """What was found in each image so far."""
        return self._found

    def compute(self, parts: Sequence[Sequence[Detections]]) -> dict[str, float]:
        """``box_ap``, ``box_ap50``, ... and with masks ``mask_ap``, ...: COCO's twelve each, shares in [0, 1].

        Metrics of an area (``box_ap_small``) are left out where no object has it.
        """
        metrics: dict[str, float] = {}
        for kind in self.kinds:
            metrics |= self.matched(parts, kind).metrics
        return metrics

    def matched(self, parts: Sequence[Sequence[Detections]], kind: Kind) -> AveragePrecision:
        """Everything that boxes or masks came to, for tables and curves; an image seen twice counts once.

        Raises ``DataError`` for images that the ground truth does not have, and where none of them has an object.
        """
        found = {entry.image_id: entry for entry in chain.from_iterable(parts)}
        return self.ground_truth.evaluate([found[image] for image in sorted(found)], kind)


def _expect_labels(targets: Sequence[Objects], classes: int) -> None:
    """Refuse labels the model has no class for, before they become an index error deep inside a kernel."""
    labels = torch.cat([target["labels"] for target in targets])
    low, high = (int(value) for value in torch.aminmax(labels)) if len(labels) else (0, 0)
    if low < 0 or high >= classes:
        raise DataError(
            f"targets: expected labels from 0 to {classes - 1} for a model with {classes} classes, got "
            f"{low if low < 0 else high}; build the model with num_classes equal to the number of classes in the data"
        )
