"""``create_detector`` and ``create_segmenter``: the name of a system and of a backbone to a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack

from ..errors import InputError, WeightsError, did_you_mean
from ..model.dense.build import build_dense
from ..model.dense.detector import Detector, Segmenter
from ..spec.dense import DETECTORS, SEGMENTERS, DenseSpec
from ..spec.mixer import MixersLike
from ..spec.model import AnySpec, ModelSpec, TimmSpec
from .classifier import adapt_preprocessing, adapt_spec, look_up

if TYPE_CHECKING:
    from pathlib import Path

    from ..weights.load import StateDict


class DenseOptions(TypedDict, total=False):
    """Arguments that ``create_detector`` and ``create_segmenter`` share; they are described at the former."""

    pretrained_backbone: bool
    backbone_weights: StateDict | str | Path | None
    pretrained: bool
    weights: StateDict | str | Path | None
    square: bool
    img_size: int | Sequence[int] | None
    mixers: MixersLike | None
    drop_path_rate: float
    stem_stride: int | None


def create_detector(
    system: str,
    backbone: str | AnySpec = "poolformer_s12",
    num_classes: int = 80,
    *,
    short_side: int = 800,
    long_side: int = 1333,
    **options: Unpack[DenseOptions],
) -> Detector:
    """A model that finds objects: ``model(images, targets)`` gives losses while training, ``model(images)`` objects.

    Args:
        system: ``retinanet`` for boxes, ``mask_rcnn`` for boxes and masks.
        backbone: a model's name (``list_models()``), a ``ModelSpec`` or a ``TimmSpec``.
        num_classes: real classes; background is none of them.
        short_side: to which images are brought, in pixels.
        long_side: what the long side must not exceed, in pixels.
        pretrained_backbone: load the classifier's published weights into the backbone.
        backbone_weights: load these instead: a classifier's state dict, file, run folder or hub id.
        pretrained: refused; the message says where the published files are, which have no stable links.
        weights: a whole detector's state dict, file, run folder or hub id, also in mmdet's layout.
        square: bring images to ``short_side`` × ``short_side`` instead, which mixers tied to a grid need.
        img_size: for which position tables are built, in pixels; as published where left out, ``short_side`` where
            ``square`` is on. They are resampled for every other size.
        mixers: other token mixers, as in ``create_model``.
        drop_path_rate: stochastic depth of the last block, 0 where left out.
        stem_stride: step of the first convolution; 1 or 2 for small images.

    Raises:
        InputError: an unknown name, or an argument that does not fit; the message says which.
    """
    _expect_system(system, DETECTORS, "create_segmenter")
    model = _create(system, backbone, num_classes, short_side, long_side, **options)
    assert isinstance(model, Detector)
    return model


def create_segmenter(
    system: str = "semantic_fpn",
    backbone: str | AnySpec = "poolformer_s12",
    num_classes: int = 150,
    *,
    short_side: int = 512,
    long_side: int = 2048,
    **options: Unpack[DenseOptions],
) -> Segmenter:
    """A model that gives every pixel a class: ``model(images)`` gives scores (B, K, H, W).

    Its arguments are those of ``create_detector``; the system is ``semantic_fpn``, whole weights may be in mmseg's
    layout.

    Raises:
        InputError: an unknown name, or an argument that does not fit; the message says which.
    """
    _expect_system(system, SEGMENTERS, "create_detector")
    model = _create(system, backbone, num_classes, short_side, long_side, **options)
    assert isinstance(model, Segmenter)
    return model


def _expect_system(system: str, known: tuple[str, ...], other: str) -> None:
    if system in known:
        return
    if system in (*DETECTORS, *SEGMENTERS):
        raise InputError(f"system: expected one of {', '.join(known)}, got {system!r}, which {other} builds")
    raise InputError(f"system: unknown {system!r}. {did_you_mean(str(system), known)}")


def _create(
    system: str,
    backbone: str | AnySpec,
    num_classes: int,
    short_side: int,
    long_side: int,
    *,
    pretrained_backbone: bool = False,
    backbone_weights: StateDict | str | Path | None = None,
    pretrained: bool = False,
    weights: StateDict | str | Path | None = None,
    square: bool = False,
    img_size: int | Sequence[int] | None = None,
    mixers: MixersLike | None = None,
    drop_path_rate: float = 0.0,
    stem_stride: int | None = None,
) -> Detector | Segmenter:
    if not isinstance(backbone, (str, ModelSpec, TimmSpec)):
        raise InputError(f"backbone: expected a model's name or a ModelSpec, got {backbone!r}")
    if square:
        sides = (img_size, img_size) if isinstance(img_size, int) else img_size
        if sides is not None and tuple(sides) != (short_side, short_side):
            raise InputError(
                f"img_size: a square model is built for its short_side, {short_side}; got {img_size}: leave it out"
            )
        img_size = short_side
    base, published_as, preprocessing = look_up(backbone)
    inner = adapt_spec(
        base, num_classes=0, img_size=img_size, mixers=mixers, drop_path_rate=drop_path_rate, stem_stride=stem_stride
    )
    spec = DenseSpec(
        system=system,  # type: ignore[arg-type]  # a name from the tables
        backbone=inner,
        num_classes=num_classes,
        short_side=short_side,
        long_side=long_side,
        square=square,
    )
    preprocessing = adapt_preprocessing(preprocessing, inner)
    preprocessing = preprocessing.with_changes(size=spec.img_size, crop=1.0, interpolation="bilinear")
    model = build_dense(spec, f"{system}_{published_as}", preprocessing, published_as)
    if weights is not None:
        from ..weights.load import load_weights

        load_weights(model, weights)
    elif pretrained:
        raise WeightsError(
            f"{model.name}: published weights have no stable links. The original project, sail-sg/poolformer, names "
            f"its files in {spec.task}/README.md; download the one you want and pass weights=FILE. For a backbone with "
            "published weights pass pretrained_backbone=True"
        )
    elif backbone_weights is not None or pretrained_backbone:
        from ..weights.dense import load_backbone

        load_backbone(model, backbone_weights)
    return model
