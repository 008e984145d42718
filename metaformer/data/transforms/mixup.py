"""A batch with class indices in, a batch with class probabilities out: Mixup and CutMix, through timm.

Papers: "mixup: Beyond Empirical Risk Minimization" and "CutMix: Regularization Strategy to Train Strong Classifiers".
"""

from __future__ import annotations

import torch
from timm.data.mixup import Mixup as TimmMixup
from timm.data.mixup import mixup_target
from torch import Tensor

from ...recipe import Augmentation
from ...types import Batch


class Mixup:
    """Mixes each image with its counterpart from the other end of the batch, with one draw for the batch.

    Draws come from NumPy's global generator. The given batch is not changed.
    """

    def __init__(self, augmentation: Augmentation, num_classes: int, label_smoothing: float = 0.0) -> None:
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self._mixup: TimmMixup | None = None
        if augmentation.mixes:
            self._mixup = TimmMixup(
                mixup_alpha=augmentation.mixup,
                cutmix_alpha=augmentation.cutmix,
                prob=augmentation.mix_probability,
                switch_prob=augmentation.mix_switch,
                mode="batch",
                label_smoothing=label_smoothing,
                num_classes=num_classes,
            )

    def __call__(self, batch: Batch) -> Batch:
        """(B, C, H, W) with targets (B,) → the same with targets (B, K) that sum to 1.

        Mixing pairs images, so the last one of an odd batch is not mixed.
        """
        even = len(batch) // 2 * 2  # timm refuses an odd batch
        if self._mixup is None or even == 0:
            return Batch(batch.inputs, self._smoothed(batch.targets))
        images, targets = self._mixup(batch.inputs[:even].clone(), batch.targets[:even])  # timm mixes in place
        return Batch(
            torch.cat([images, batch.inputs[even:]]) if even < len(batch) else images,
            torch.cat([targets, self._smoothed(batch.targets[even:])]),
        )

    def _smoothed(self, targets: Tensor) -> Tensor:
        return mixup_target(targets, self.num_classes, smoothing=self.label_smoothing)
