"""The names of whole detectors and segmenters: ours, mmdet's and mmseg's.

In: a model for dense prediction and the names of a state dict. Out: its layout, and our name for each of its names.
sail-sg/poolformer published its detectors in mmdet's layout and its segmenters in mmseg's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from ..errors import WeightsError
from ..model.dense.detector import DenseModel
from .layouts import Layout
from .name_table import Pairs, table
from .rename import our_names
from .tables_metaformer import V1_BACKBONE

MARK = "neck.lateral_convs."
"""A prefix that names of mmdet's and mmseg's layouts have."""
OURS = ("net.backbone.body.", "backbone.body.")
"""The prefixes of our own names."""
BACKGROUND_LAST = "roi_head.bbox_head.fc_cls."
"""The layer whose last row is background in mmdet; here, as in torchvision, it is the first."""

RETINANET: Pairs = table("""
    bbox_head.cls_convs.{i}.conv.* = net.head.classification_head.conv.{i}.0.*
    bbox_head.reg_convs.{i}.conv.* = net.head.regression_head.conv.{i}.0.*
    bbox_head.retina_cls.* = net.head.classification_head.cls_logits.*
    bbox_head.retina_reg.* = net.head.regression_head.bbox_reg.*
""")
MASK_RCNN: Pairs = table("""
    rpn_head.rpn_conv.* = net.rpn.head.conv.0.0.*
    rpn_head.rpn_cls.* = net.rpn.head.cls_logits.*
    rpn_head.rpn_reg.* = net.rpn.head.bbox_pred.*
    roi_head.bbox_head. = net.roi_heads.
        shared_fcs.0.* = box_head.fc6.*
        shared_fcs.1.* = box_head.fc7.*
        fc_cls.* = box_predictor.cls_score.*
        fc_reg.* = box_predictor.bbox_pred.*
    roi_head.mask_head. = net.roi_heads.
        convs.{i}.conv.* = mask_head.{i}.0.*
        upsample.* = mask_predictor.conv5_mask.*
        conv_logits.* = mask_predictor.mask_fcn_logits.*
""")
SEMANTIC_FPN: Pairs = table("""
    decode_head.scale_heads.{i}.{j}.conv.* = head.scales.{i}.{j}.conv.*
    decode_head.scale_heads.{i}.{j}.bn.* = head.scales.{i}.{j}.bn.*
    decode_head.conv_seg.* = head.classify.*
""")
HEADS = {"retinanet": ("mmdet", RETINANET), "mask_rcnn": ("mmdet", MASK_RCNN), "semantic_fpn": ("mmseg", SEMANTIC_FPN)}
"""The layout of a system, and the names of its heads."""
MARKS = {
    "retinanet": ("bbox_head.", "net.head."),
    "mask_rcnn": ("roi_head.", "net.roi_heads."),
    "semantic_fpn": ("decode_head.", "head.scales."),
}
"""The prefixes of a system's heads, in mmdet or mmseg and here."""


def is_dense(names: Iterable[str]) -> bool:
    """Whether names belong to a whole detector or segmenter, in any known layout."""
    return any(name.startswith((MARK, *OURS)) for name in names)


def dense_names(model: DenseModel, names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The layout of a checkpoint, and our name for each of its names.

    Raises:
        WeightsError: not of a detector or segmenter, or of another system.
    """
    known = list(names)
    other = next((name for name, marks in MARKS.items() if any(one.startswith(marks) for one in known)), None)
    if is_dense(known) and other not in (None, model.spec.system):
        raise WeightsError(
            f"these are the weights of a {other}, and the model is a {model.spec.system}: build it with "
            f"{'create_segmenter' if other == 'semantic_fpn' else 'create_detector'}({other!r}, ..., weights=...)"
        )
    if any(name.startswith(model.body_name) for name in known):
        return "metaformer", {name: name for name in known}
    if not is_dense(known):
        raise WeightsError(
            f"the names in this checkpoint ({', '.join(known[:3])}, ...) belong to no detector or segmenter. For a "
            "classifier's weights in the backbone: create_detector(..., backbone_weights=...) or "
            "create_segmenter(..., backbone_weights=...)"
        )
    layout = openmmlab_layout(model)
    return layout.name, our_names(layout, known)


def openmmlab_layout(model: DenseModel) -> Layout:
    """mmdet's layout for a detector, mmseg's for a segmenter."""
    body, fpn, count = model.body_name, f"{model.neck_name}.fpn", len(model.body.channels)
    backbone: Pairs = (
        *((f"backbone.{theirs}", body + ours.removeprefix("backbone.")) for theirs, ours in V1_BACKBONE),
        # the norm of a stage's map is numbered as PoolFormer's list of stages and downsamplings is
        *((f"backbone.norm{2 * i}.*", f"{body}norms.{i}.*") for i in range(4)),
    )
    neck: Pairs = (
        ("neck.lateral_convs.{i}.conv.*", f"{fpn}.inner_blocks.{{i}}.0.*"),
        (f"neck.fpn_convs.{count}.conv.*", f"{fpn}.extra_blocks.p6.*"),
        (f"neck.fpn_convs.{count + 1}.conv.*", f"{fpn}.extra_blocks.p7.*"),
        ("neck.fpn_convs.{i}.conv.*", f"{fpn}.layer_blocks.{{i}}.0.*"),
    )
    name, head = HEADS[model.spec.system]
    return Layout(name=name, mark=re.escape(MARK), pairs=(*backbone, *neck, *head), running_number=True)


def background_first(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with the background row moved to the front where a detector's class scores have it last."""
    return {name: tensor.roll(1, 0) if name.startswith(BACKGROUND_LAST) else tensor for name, tensor in state.items()}
