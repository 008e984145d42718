"""RetinaNet (Lin et al., "Focal Loss for Dense Object Detection") from torchvision's parts with the published losses.

In: named maps of one width. Out: losses, or boxes with scores and labels 0 to K - 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.ops import sigmoid_focal_loss

from ...spec.dense import DenseSpec
from ...types import Preprocessing
from .anchors import RATIOS, RETINANET_SCALES, Anchors
from .image import ImageTransform
from .neck import ConvLevels, PyramidNetwork
from .pyramid import Pyramid


class Head(RetinaNetHead):
    """torchvision's head; losses are sums over the batch divided by its number of matched anchors."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Maps (B, 256, H_i, W_i) to scores (B, N, K) and box codes (B, N, 4), in float32: half precision moves boxes
        by whole pixels."""
        return {name: values.float() for name, values in super().forward(x).items()}

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Focal loss (gamma 2, alpha 0.25) and L1 of the box codes, scalars."""
        # At least 1 an image: one without objects must not divide by zero.
        count = sum(max(int((matched >= 0).sum()), 1) for matched in matched_idxs)
        scores, codes = head_outputs["cls_logits"], head_outputs["bbox_regression"]
        seen = list(zip(targets, anchors, matched_idxs, strict=True))
        classification = sum(self._focal(scores[i], *one) for i, one in enumerate(seen))
        boxes = sum(self._distance(codes[i], *one) for i, one in enumerate(seen))
        return {"classification": classification / count, "bbox_regression": boxes / count}  # type: ignore[dict-item]

    def _focal(self, scores: Tensor, target: dict[str, Tensor], anchors: Tensor, matched: Tensor) -> Tensor:
        wanted = torch.zeros_like(scores)
        positive = matched >= 0
        wanted[positive, target["labels"][matched[positive]]] = 1.0
        counted = matched != Matcher.BETWEEN_THRESHOLDS
        return sigmoid_focal_loss(scores[counted], wanted[counted], alpha=0.25, gamma=2.0, reduction="sum")

    def _distance(self, codes: Tensor, target: dict[str, Tensor], anchors: Tensor, matched: Tensor) -> Tensor:
        positive = matched >= 0
        boxes = target["boxes"][matched[positive]]
        wanted = self.regression_head.box_coder.encode_single(boxes, anchors[positive])
        return F.l1_loss(codes[positive], wanted, reduction="sum")


def build_retinanet(spec: DenseSpec, body: Pyramid, preprocessing: Preprocessing) -> RetinaNet:
    """The whole network on a pyramid without its finest map, freshly initialized."""
    neck = PyramidNetwork(body, ConvLevels(body.channels[-1]))
    model = RetinaNet(
        neck,
        num_classes=spec.num_classes,
        anchor_generator=Anchors(neck.strides, RETINANET_SCALES),
        head=Head(neck.out_channels, len(RETINANET_SCALES) * len(RATIOS), spec.num_classes),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.4,
        score_thresh=0.05,
        nms_thresh=0.5,
        topk_candidates=1000,
        detections_per_img=100,
    )
    model.transform = ImageTransform(spec, preprocessing, body.strides[-1])
    return model
