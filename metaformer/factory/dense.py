"""``create_detector`` and ``create_segmenter``: a system and a backbone by their names to a model."""

from __future__ import annotations

from typing import Any

from ..errors import InputError, WeightsError, did_you_mean
from ..model.dense.build import build_dense
from ..model.dense.detector import Detector, Segmenter
from ..spec.dense import DETECTORS, SEGMENTERS, DenseSpec
from ..spec.model import AnySpec, ModelSpec, TimmSpec
from ..types import Preprocessing
from ..zoo.catalogue import find
from .classifier import adapted, fitted


def create_detector(
    system: str,
    backbone: str | AnySpec = "poolformer_s12",
    num_classes: int = 80,
    *,
    pretrained_backbone: bool = False,
    backbone_weights: Any = None,
    pretrained: bool = False,
    weights: Any = None,
    short_side: int = 800,
    long_side: int = 1333,
    square: bool = False,
    img_size: int | tuple[int, int] | None = None,
    mixers: object = None,
    drop_path_rate: float = 0.0,
    stem_stride: int | None = None,
) -> Detector:
    """A model that finds objects: ``model(images, targets)`` gives losses while training, ``model(images)`` objects.

    Args:
        system: ``retinanet`` for boxes, ``mask_rcnn`` for boxes and masks.
        backbone: a row of the zoo, a ``ModelSpec`` or a ``TimmSpec``.
        num_classes: real classes; background is none of them.
        pretrained_backbone: load the classifier's published weights into the backbone.
        backbone_weights: load these instead: a classifier's state dict, file, run folder or hub id.
        pretrained: refused with where the published files are; they have no stable links.
        weights: a whole detector's state dict, file, run folder or hub id, also in mmdet's layout.
        short_side: to which images are brought, in pixels.
        long_side: what the long side must not exceed.
        square: bring images to ``short_side`` × ``short_side`` instead, which mixers tied to a grid need.
        img_size: for which position tables are built, in pixels; as published where left out, ``short_side`` where
            ``square`` is on. They are resampled for every other size.
        mixers: other token mixers, as in ``create_model``.
        drop_path_rate: stochastic depth of the last block.
        stem_stride: step of the first convolution; 1 or 2 for small images.

    Raises:
        InputError: an unknown name, or an argument that does not fit; the message says which.
    """
    _expect_system(system, DETECTORS, "create_segmenter")
    model = _create(
        system,
        backbone,
        num_classes,
        sizes={"short_side": short_side, "long_side": long_side, "square": square},
        img_size=img_size,
        changes={"mixers": mixers, "drop_path_rate": drop_path_rate, "stem_stride": stem_stride},
        sources=(pretrained_backbone, backbone_weights, pretrained, weights),
    )
    assert isinstance(model, Detector)
    return model


def create_segmenter(
    system: str = "semantic_fpn",
    backbone: str | AnySpec = "poolformer_s12",
    num_classes: int = 150,
    *,
    pretrained_backbone: bool = False,
    backbone_weights: Any = None,
    pretrained: bool = False,
    weights: Any = None,
    short_side: int = 512,
    long_side: int = 2048,
    square: bool = False,
    img_size: int | tuple[int, int] | None = None,
    mixers: object = None,
    drop_path_rate: float = 0.0,
    stem_stride: int | None = None,
) -> Segmenter:
    """A model that gives every pixel a class: ``model(images)`` gives scores (B, K, H, W).

    Its arguments are those of ``create_detector``; the system is ``semantic_fpn``, whole weights may be in mmseg's
    layout.

    Raises:
        InputError: an unknown name, or an argument that does not fit; the message says which.
    """
    _expect_system(system, SEGMENTERS, "create_detector")
    model = _create(
        system,
        backbone,
        num_classes,
        sizes={"short_side": short_side, "long_side": long_side, "square": square},
        img_size=img_size,
        changes={"mixers": mixers, "drop_path_rate": drop_path_rate, "stem_stride": stem_stride},
        sources=(pretrained_backbone, backbone_weights, pretrained, weights),
    )
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
    *,
    sizes: dict[str, Any],
    img_size: int | tuple[int, int] | None,
    changes: dict[str, Any],
    sources: tuple[bool, Any, bool, Any],
) -> Detector | Segmenter:
    if not isinstance(backbone, (str, ModelSpec, TimmSpec)):
        raise InputError(f"backbone: expected a model's name or a ModelSpec, got {backbone!r}")
    row = find(backbone) if isinstance(backbone, str) else None
    base: AnySpec = find(backbone).spec if isinstance(backbone, str) else backbone
    inner = adapted(base, num_classes=0, in_chans=base.in_chans, img_size=_side(sizes, img_size), **changes)
    spec = DenseSpec(system=system, backbone=inner, num_classes=num_classes, **sizes)  # type: ignore[arg-type]
    classifier = row.name if row else "custom"
    preprocessing = fitted(row.preprocessing if row else Preprocessing(), inner)
    preprocessing = preprocessing.with_changes(size=spec.img_size, crop=1.0, interpolation="bilinear")
    model = build_dense(spec, f"{system}_{classifier}", preprocessing, classifier)
    _load(model, *sources)
    return model


def _side(sizes: dict[str, Any], img_size: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
    """The size that the backbone is built for."""
    if not sizes["square"]:
        return img_size
    side: int = sizes["short_side"]
    if img_size not in (None, side, (side, side), [side, side]):
        raise InputError(f"img_size: a square model is built for its short_side, {side}; got {img_size}: leave it out")
    return side


def _load(
    model: Detector | Segmenter, pretrained_backbone: bool, backbone_weights: Any, pretrained: bool, weights: Any
) -> None:
    """Fill a fresh model with what was asked for."""
    from ..weights.dense import load_backbone
    from ..weights.load import load_weights

    if weights is not None:
        load_weights(model, weights)
    elif pretrained:
        folder = "detection" if model.spec.finds_objects else "segmentation"
        raise WeightsError(
            f"{model.name}: published weights have no stable links. The original project, sail-sg/poolformer, names "
            f"its files in {folder}/README.md; download the one you want and pass weights=FILE. For a backbone with "
            "published weights take pretrained_backbone=True"
        )
    elif backbone_weights is not None or pretrained_backbone:
        load_backbone(model, backbone_weights)
