"""Mask R-CNN (He et al., "Mask R-CNN") from torchvision's parts, with the published losses and aligned region pooling.

In: named maps of one width. Out: losses, or boxes with scores, labels and masks. Inside, as in torchvision, label 0 is
background and classes begin at 1. The predictors have boxes and masks for real classes only, as the published weights
do; zeros take the place of the background.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import roi_align

from ...spec.dense import DenseSpec
from ...types import Preprocessing
from .anchors import PROPOSAL_SCALES, RATIOS, Anchors
from .image import ImageTransform
from .neck import WIDTH, PooledLevel, PyramidNetwork
from .pyramid import Pyramid

BOX_SIDE, MASK_SIDE = 7, 14
"""Sides of the pooled regions, in cells; a mask has twice the cells."""
HIDDEN = 1024
"""Width of the two layers in front of the box predictor."""
FINEST = 14
"""Regions with sides below 8 times this many strides of the finest map are pooled from it: 112 pixels at stride 4."""


class ProposalHead(RPNHead):
    """torchvision's head with results in float32: half precision moves boxes by whole pixels."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (B, 256, H_i, W_i) to scores (B, A, H_i, W_i) and box codes (B, 4 A, H_i, W_i)."""
        scores, codes = super().forward(x)
        return [one.float() for one in scores], [one.float() for one in codes]


class FlooredMatcher(Matcher):
    """An object without a well matching anchor gets its best one, if that overlaps by at least ``floor``."""

    def __init__(self, high: float, low: float, floor: float) -> None:
        super().__init__(high, low, allow_low_quality_matches=True)
        self.floor = floor

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, match_quality_matrix: Tensor) -> None:
        """Changes ``matches`` (N,) in place; the matrix (G, N) holds the overlaps."""
        reached = match_quality_matrix.max(dim=1).values >= self.floor
        if reached.any():
            super().set_low_quality_matches_(matches, all_matches, match_quality_matrix[reached])


class Proposals(RegionProposalNetwork):
    """torchvision's network with the published losses."""

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Binary cross entropy of the sampled anchors, and L1 of their box codes over the count of samples."""
        positives, negatives = (torch.cat(one).bool() for one in self.fg_bg_sampler(labels))
        sampled = positives | negatives
        is_object, codes = torch.cat(labels), torch.cat(regression_targets)
        distance = F.l1_loss(pred_bbox_deltas[positives], codes[positives], reduction="sum") / sampled.sum()
        return F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], is_object[sampled]), distance


class AlignedPool(nn.Module):
    """Regions cropped from the map for their size, sampled without rounding (RoIAlign, aligned by half a cell)."""

    def __init__(self, side: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.side, self.strides = side, tuple(strides)

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]] | None = None
    ) -> Tensor:
        """Maps and a list of boxes (R_i, 4) in pixels to (sum of R_i, 256, side, side)."""
        regions = torch.cat([torch.cat([torch.full_like(one[:, :1], i), one], dim=1) for i, one in enumerate(boxes)])
        levels = self.level_of(regions[:, 1:])
        maps = list(x.values())[: len(self.strides)]
        pooled = regions.new_zeros(len(regions), maps[0].shape[1], self.side, self.side)
        for level, (one, stride) in enumerate(zip(maps, self.strides, strict=True)):
            here = levels == level
            pooled[here] = roi_align(
                one.to(regions.dtype), regions[here], self.side, 1 / stride, sampling_ratio=0, aligned=True
            )
        return pooled

    def level_of(self, boxes: Tensor) -> Tensor:
        """The number of the map that each box (R, 4) is pooled from ("Feature Pyramid Networks", equation 1)."""
        side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
        # The published code's 1e-6: a box exactly on the border between two levels gets the coarser one.
        level = torch.floor(torch.log2(side / (FINEST * self.strides[0]) + 1e-6))
        return level.clamp(0, len(self.strides) - 1).long()


class BoxPredictor(nn.Module):
    """Scores for background and K classes, boxes for the K classes."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, num_classes + 1)
        self.bbox_pred = nn.Linear(width, num_classes * 4)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.cls_score.bias)
        nn.init.zeros_(self.bbox_pred.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, 1024) to scores (R, K + 1) and box codes (R, (K + 1) · 4), float32; those of background are zeros."""
        return self.cls_score(x).float(), F.pad(self.bbox_pred(x).float(), (4, 0))


class MaskPredictor(MaskRCNNPredictor):
    """A mask for each of the K classes."""

    def __init__(self, in_channels: int, width: int, num_classes: int) -> None:
        super().__init__(in_channels, width, num_classes)
        nn.init.normal_(
            self.mask_fcn_logits.weight, std=0.01
        )  # torchvision's init by fan-out starts far from 0.5 with few classes
        nn.init.zeros_(self.mask_fcn_logits.bias)

    def forward(self, input: Tensor) -> Tensor:
        """(R, 256, 14, 14) to logits (R, K + 1, 28, 28), float32; those of background are zeros."""
        return F.pad(super().forward(input).float(), (0, 0, 0, 0, 1, 0))


class RegionHeads(RoIHeads):
    """Boxes, classes and masks of proposed regions."""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Maps and proposed boxes (R_i, 4) to (objects, losses), one of the two empty."""
        if self.training:
            return [], self._losses(features, proposals, targets)
        return self._found(features, proposals, image_shapes), {}

    def _losses(
        self, features: dict[str, Tensor], proposals: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> dict[str, Tensor]:
        regions, matched, labels, codes = self.select_training_samples(proposals, targets)
        scores, found = self._boxes(features, regions)
        classes, wanted = torch.cat(labels), torch.cat(list(codes))
        positive = torch.where(classes > 0)[0]
        own = found.view(len(found), -1, 4)[positive, classes[positive]]
        return {
            "loss_classifier": F.cross_entropy(scores, classes),
            "loss_box_reg": F.l1_loss(own, wanted[positive], reduction="sum") / classes.numel(),
            "loss_mask": self._mask_loss(features, regions, matched, labels, targets or []),
        }

    def _mask_loss(
        self,
        features: dict[str, Tensor],
        regions: list[Tensor],
        matched: list[Tensor],
        labels: list[Tensor],
        targets: list[dict[str, Tensor]],
    ) -> Tensor:
        """Binary cross entropy of the true class's mask, in regions with an object."""
        positive = [label > 0 for label in labels]
        boxes = [one[kept] for one, kept in zip(regions, positive, strict=True)]
        logits = self._masks(features, boxes)
        if not len(logits):
            return logits.sum() * 0  # keeps the mask head's parameters in the graph, as DDP wants them
        classes = torch.cat([label[kept] for label, kept in zip(labels, positive, strict=True)])
        wanted = [
            crop_masks(target["masks"], box, index[kept], logits.shape[-1])
            for target, box, index, kept in zip(targets, boxes, matched, positive, strict=True)
        ]
        own = logits[torch.arange(len(classes), device=classes.device), classes]
        return F.binary_cross_entropy_with_logits(own, torch.cat(wanted))

    def _found(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        boxes, scores, labels = self.postprocess_detections(*self._boxes(features, proposals), proposals, image_shapes)
        logits = self._masks(features, boxes)
        classes = torch.cat(labels)
        masks = logits[torch.arange(len(classes), device=classes.device), classes].sigmoid()[:, None]
        return [
            {"boxes": box, "labels": label, "scores": score, "masks": mask}
            for box, label, score, mask in zip(
                boxes, labels, scores, masks.split([len(box) for box in boxes]), strict=True
            )
        ]

    def _boxes(self, features: dict[str, Tensor], regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.box_predictor(self.box_head(self.box_roi_pool(features, regions)))

    def _masks(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        return self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes)))


def crop_masks(masks: Tensor, boxes: Tensor, index: Tensor, side: int) -> Tensor:
    """The masks (G, H, W) that ``index`` (R,) names inside boxes (R, 4), as zeros and ones (R, side, side)."""
    regions = torch.cat([index[:, None].to(boxes), boxes], dim=1)
    seen = roi_align(masks[:, None].to(boxes), regions, side, sampling_ratio=0, aligned=True)[:, 0]
    return (seen >= 0.5).to(boxes)


def build_mask_rcnn(spec: DenseSpec, body: Pyramid, preprocessing: Preprocessing) -> GeneralizedRCNN:
    """The whole network on a pyramid, freshly initialized."""
    neck = PyramidNetwork(body, PooledLevel())
    transform = ImageTransform(spec, preprocessing, body.strides[-1])
    return GeneralizedRCNN(neck, _proposals(neck), _region_heads(spec, body), transform)


def _proposals(neck: PyramidNetwork) -> Proposals:
    proposals = Proposals(
        Anchors(neck.strides, PROPOSAL_SCALES),
        ProposalHead(WIDTH, len(PROPOSAL_SCALES) * len(RATIOS)),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 2000, "testing": 1000},
        post_nms_top_n={"training": 1000, "testing": 1000},
        nms_thresh=0.7,
    )
    proposals.proposal_matcher = FlooredMatcher(0.7, 0.3, floor=0.3)
    return proposals


def _region_heads(spec: DenseSpec, body: Pyramid) -> RegionHeads:
    return RegionHeads(
        AlignedPool(BOX_SIDE, body.strides),
        TwoMLPHead(WIDTH * BOX_SIDE**2, HIDDEN),
        BoxPredictor(HIDDEN, spec.num_classes),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=512,
        positive_fraction=0.25,
        bbox_reg_weights=(10.0, 10.0, 5.0, 5.0),
        score_thresh=0.05,
        nms_thresh=0.5,
        detections_per_img=100,
        mask_roi_pool=AlignedPool(MASK_SIDE, body.strides),
        mask_head=MaskRCNNHeads(WIDTH, (WIDTH,) * 4, dilation=1),
        mask_predictor=MaskPredictor(WIDTH, WIDTH, spec.num_classes),
    )
