"""Detection of objects: a detector's losses in, their sum out; its boxes and masks in, average precision out.

A detector computes its losses itself in training mode, because they depend on which of its proposals match the ground
truth; this module adds them up. ``average_precision`` computes the metrics. Shapes: G objects, K classes.
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
        ground_truth: the objects of the evaluation images in COCO's format; image ids are indices in the dataset,
            category ids are labels + 1. Crowds count neither as found nor as missed. None for a loss without metrics.
        num_classes: K, without background.
        masks: whether masks are evaluated as well as boxes, and select the best weights.

    Raises:
        DataError: a ground truth without objects, with a label beyond K, or without masks where ``masks`` is set.
        MissingExtraError: faster-coco-eval is not installed.
    """

    running: tuple[str, ...] = ()
    """Empty: detections cannot be counted as correct or wrong without matching them."""

    def __init__(self, ground_truth: Mapping[str, Any] | None, num_classes: int, masks: bool) -> None:
        self.num_classes, self.masks = num_classes, masks
        self.primary = MASK_AP if masks else BOX_AP
        self.metrics = BOX + MASK if masks else BOX
        self._ground_truth = None
        if ground_truth is not None:
            evaluator()  # so that a missing library is reported before the first epoch and not after it
            self._ground_truth = GroundTruth(ground_truth, num_classes, masks)

    def forward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor] | list[Objects]:
        """Losses by name in training mode; in evaluation mode the detections in each image, best first.

        Raises ``DataError`` for a label beyond the model's classes.
        """
        if not model.training:
            detections: list[Objects] = model(batch.inputs)
            return detections
        _expect_labels(batch.targets, self.num_classes)
        losses: dict[str, Tensor] = model(batch.inputs, batch.targets)
        return losses

    def loss(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """The sum of the losses, a scalar."""
        # in float32, since under autocast some of them have 16 bits
        return torch.stack([loss.float() for loss in outputs.values()]).sum()

    def count(self, outputs: Any, batch: Batch) -> Mapping[str, tuple[float, float]]:
        """An empty mapping."""
        return {}

    def metric(self) -> DetectionMetric:
        """A new accumulator of detections."""
        if self._ground_truth is None:
            raise DataError("detection: no ground truth was given; an evaluation needs it")
        return DetectionMetric(self._ground_truth, self.masks)


class DetectionMetric:
    """Keeps the detections in each image, masks as run lengths, until all images are matched together."""

    def __init__(self, ground_truth: GroundTruth, masks: bool) -> None:
        self.ground_truth = ground_truth
        self.kinds: tuple[Kind, ...] = ("box", "mask") if masks else ("box",)
        self._detections: list[Detections] = []

    def update(self, outputs: Sequence[Objects], batch: Batch) -> None:
        """Add the detections in a batch; ``batch.targets`` have the ``image_id`` of each image."""
        for objects, target in zip(outputs, batch.targets, strict=True):
            self._detections.append(Detections.of(objects, int(target["image_id"]), masks="mask" in self.kinds))

    @property
    def part(self) -> list[Detections]:
        """The detections in each image so far."""
        return self._detections

    def compute(self, parts: Sequence[Sequence[Detections]]) -> dict[str, float]:
        """``box_ap``, ``box_ap50``, ... and with masks ``mask_ap``, ...: COCO's twelve metrics each, in [0, 1].

        Metrics of an area (``box_ap_small``) are left out where no object has that area.
        """
        metrics: dict[str, float] = {}
        for kind in self.kinds:
            metrics |= self.average_precision(parts, kind).metrics
        return metrics

    def average_precision(self, parts: Sequence[Sequence[Detections]], kind: Kind) -> AveragePrecision:
        """The results for boxes or masks, for metrics, tables and curves.

        Raises ``DataError`` for images that the ground truth does not have, and where none of them has an object.
        """
        # by image, so that one that two processes evaluated counts once; sorted, so that ties are broken alike
        detections = {entry.image_id: entry for entry in chain.from_iterable(parts)}
        return self.ground_truth.evaluate([detections[image] for image in sorted(detections)], kind)


def _expect_labels(targets: Sequence[Objects], classes: int) -> None:
    # on a GPU, a label beyond the classes is a device-side assertion without the label
    labels = torch.cat([target["labels"] for target in targets])
    low, high = (int(value) for value in torch.aminmax(labels)) if len(labels) else (0, 0)
    if low < 0 or high >= classes:
        raise DataError(
            f"targets: expected labels from 0 to {classes - 1} for a model with {classes} classes, got "
            f"{low if low < 0 else high}; build the model with num_classes equal to the number of classes in the data"
        )
