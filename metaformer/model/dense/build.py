"""From a ``DenseSpec`` to modules: backbone, pyramid, pyramid network, heads."""

from __future__ import annotations

from math import log2

from ...errors import SpecError
from ...spec.dense import DenseSpec
from ...spec.model import AnySpec
from ...types import Preprocessing
from ..build import TIED_TO_GRID, Model, build
from ..mixers.window import Window
from .detector import Detector, Segmenter
from .mask_rcnn import build_mask_rcnn
from .neck import NoExtraLevels, PyramidNetwork
from .pyramid import Pyramid, build_pyramid
from .retinanet import build_retinanet
from .semantic_fpn import SemanticHead

AnyModel = Model | Detector | Segmenter
"""Everything that can be built from a spec."""


def build_any(spec: AnySpec | DenseSpec, name: str = "", preprocessing: Preprocessing | None = None) -> AnyModel:
    """The model of a spec, freshly initialized: a classifier, a detector or a segmenter."""
    if isinstance(spec, DenseSpec):
        return build_dense(spec, name, preprocessing)
    return build(spec, name, preprocessing)


def build_dense(
    spec: DenseSpec, name: str = "", preprocessing: Preprocessing | None = None, backbone_name: str = ""
) -> Detector | Segmenter:
    """A detector or a segmenter from its spec, freshly initialized.

    Args:
        spec: the model as data.
        name: name of the model.
        preprocessing: mean and standard deviation of the images' channels.
        backbone_name: name of the classifier that the backbone comes from, for its published weights.

    Raises:
        SpecError: a part that cannot be built, or a backbone whose mixers need images of one size.
    """
    preprocessing = preprocessing or Preprocessing(size=spec.img_size, crop=1.0, interpolation="bilinear")
    body = build_pyramid(spec.backbone, backbone_name, preprocessing, skip_finest=spec.system == "retinanet")
    if not spec.square:
        _refuse_tied(body, spec)
    if spec.system == "semantic_fpn":
        doublings = [round(log2(stride / body.strides[0])) for stride in body.strides]
        neck = PyramidNetwork(body, NoExtraLevels())
        head = SemanticHead(neck.out_channels, doublings, spec.num_classes)
        return Segmenter(neck, head, spec, name=name, preprocessing=preprocessing)
    masks = spec.finds_masks
    net = (build_mask_rcnn if masks else build_retinanet)(spec, body, preprocessing)
    return Detector(net, spec, name=name, preprocessing=preprocessing, first_label=int(masks))


def _refuse_tied(body: Pyramid, spec: DenseSpec) -> None:
    """Refuse mixers that are matrices over the positions where images have different shapes."""
    # Inside a window the grid is always the window's own, whatever the image's size is.
    inside = {part for window in body.modules() if isinstance(window, Window) for part in window.modules()}
    for name, part in body.named_modules():
        if isinstance(part, tuple(TIED_TO_GRID)) and part not in inside:
            side = max(spec.backbone.img_size)
            raise SpecError(
                f"backbone.{name}: {type(part).__name__} mixes a fixed grid of tokens and cannot take images of "
                f"different shapes: resize all of them to one square with square=True, short_side={side} (or another "
                "multiple of 32), or choose another mixer with mixers=..."
            )
