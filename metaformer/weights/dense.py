"""A classifier's weights into the backbone of a model for dense prediction.

In: a detector or a segmenter, and a classifier's weights in any layout. Out: its stages filled. The head is left out,
but for the final norm of a model of a single stride, on which its pyramid stands.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..model.backbone import Backbone
from ..model.build import build_head
from ..model.classifier import Classifier
from ..model.dense.detector import DenseModel
from ..model.dense.pyramid import CNNPyramid, SimplePyramid
from ..spec.model import ModelSpec
from .load import LoadReport, StateDict, load_pretrained, load_weights


def load_backbone(model: DenseModel, source: StateDict | str | Path | None = None) -> LoadReport:
    """Fill a backbone with a classifier's weights; with its published ones where no source is given.

    Args:
        model: a detector or a segmenter.
        source: a classifier's state dict, file, run folder or hub id.

    Raises:
        WeightsError: truncated, unsafe, of another model, or not found. The model is then unchanged.
    """
    classifier = _as_classifier(model)
    return load_pretrained(classifier) if source is None else load_weights(classifier, source)


def _as_classifier(model: DenseModel) -> nn.Module:
    """The backbone's own modules where a classifier has them, with a head that is thrown away."""
    body, spec = model.body, model.spec.backbone
    if isinstance(body, CNNPyramid):
        return body
    assert isinstance(spec, ModelSpec)
    spec = spec.with_changes(num_classes=0)
    head = build_head(spec)
    if isinstance(body, SimplePyramid):
        setattr(head, "pre_norm" if spec.head.norm_position == "before" else "norm", body.norm)
    return Classifier(
        Backbone(list(body.stages), body.input_part),  # type: ignore[arg-type]
        head,
        spec=spec,
        name=model.name.removeprefix(f"{model.spec.system}_"),  # the name that published weights are found by
        preprocessing=model.preprocessing,
        make_head=build_head,
    )
