"""``create_model``: a name to a model, with the arguments people know from timm."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..model.build import Model, build
from ..model.classifier import Classifier, FeatureExtractor
from ..model.timm_cnn import TimmFeatures
from ..spec.model import AnySpec, ModelSpec, TimmSpec
from ..types import Preprocessing
from ..zoo.catalogue import find


def create_model(
    name: str | AnySpec,
    *,
    pretrained: bool = False,
    weights: Any = None,
    num_classes: int | None = None,
    in_chans: int = 3,
    img_size: int | tuple[int, int] | None = None,
    features_only: bool = False,
    out_indices: tuple[int, ...] | list[int] | None = None,
    drop_path_rate: float | None = None,
    drop_rate: float | None = None,
    mixers: object = None,
    stem_stride: int | None = None,
    timm_head: bool = False,
) -> Any:
    """A model of the zoo, or of a spec of your own.

    Args:
        name: a row of the zoo (``list_models()``), a ``ModelSpec``, or a
            ``TimmSpec``, with which ``mixers``, ``stem_stride`` and ``timm_head`` make no sense and are refused.
        pretrained: load the published weights (downloaded once, then from the cache).
        weights: load these instead: a state dict, a file, or a hub id.
        num_classes: width of the scores; 0 gives pooled features (B, C).
        in_chans: channels of the images; published stems are summed or repeated to fit.
        img_size: side, or height and width, in pixels that position tables and mixers tied to a grid are built for.
        features_only: give the maps of the stages instead of scores.
        out_indices: which stages, counted from 0.
        drop_path_rate: stochastic depth of the last block.
        drop_rate: dropout before the last linear layer.
        mixers: other token mixers, one for all stages or one for each: a name, ``"pooling(kernel=5)"``,
            ``("attention", {"head_dim": 64})``, or any callable that takes the width and returns a module with
            ``forward(x, grid, mask=None)``.
        stem_stride: step of the first convolution; 1 or 2 for small images, 4 as published.
        timm_head: final norm behind the pooling and over channels, as timm's PoolFormer does it, instead of the
            original's order; the same weights, slightly other scores.

    Returns:
        ``Classifier``, or ``FeatureExtractor`` where ``features_only``; ``TimmClassifier`` and ``TimmFeatures``, which
        answer to the same calls, for timm's CNNs.

    Raises:
        InputError: an unknown name, mixer, or an argument that does not fit; the message says which.
    """
    if not isinstance(name, (str, ModelSpec, TimmSpec)):
        raise InputError(f"name: expected a model's name or a ModelSpec, got {name!r}; list_models() gives the names")
    if out_indices is not None and not features_only:
        raise InputError(
            "out_indices: expected features_only=True with it; forward_intermediates(indices=...) "
            "gives maps of a whole model"
        )
    row = find(name) if isinstance(name, str) else None
    base: AnySpec = find(name).spec if isinstance(name, str) else name
    spec = adapted(
        base,
        num_classes=num_classes,
        in_chans=in_chans,
        img_size=img_size,
        drop_path_rate=drop_path_rate,
        drop_rate=drop_rate,
        mixers=mixers,
        stem_stride=stem_stride,
        timm_head=timm_head,
    )
    preprocessing = fitted(row.preprocessing if row else Preprocessing(size=base.img_size), spec)
    model = build(spec, row.name if row else "custom", preprocessing)
    _load(model, pretrained, weights)
    if not features_only:
        return model
    extractor = FeatureExtractor if isinstance(model, Classifier) else TimmFeatures
    return extractor(model, out_indices)  # type: ignore[arg-type]


def _load(model: Model, pretrained: bool, weights: Any) -> None:
    if not pretrained and weights is None:
        return
    from ..weights.load import load_pretrained, load_weights

    if weights is not None:
        load_weights(model, weights)
    else:
        load_pretrained(model)


def adapted(
    spec: AnySpec,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    img_size: int | tuple[int, int] | None = None,
    drop_path_rate: float | None = None,
    drop_rate: float | None = None,
    mixers: object = None,
    stem_stride: int | None = None,
    timm_head: bool = False,
) -> AnySpec:
    """A spec with the arguments of ``create_model`` worked in."""
    changes: dict[str, Any] = {"in_chans": in_chans}
    if num_classes is not None:
        changes["num_classes"] = num_classes
    if drop_path_rate is not None:
        changes["drop_path_rate"] = drop_path_rate
    if drop_rate is not None:
        spec = spec.with_dropout(drop_rate)
    if timm_head:
        spec = spec.with_timm_head()
    if stem_stride is not None:
        spec = spec.with_stem_stride(stem_stride)
    if img_size is not None:
        changes["img_size"] = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    spec = spec.with_changes(**changes)
    return spec if mixers is None else spec.with_mixers(mixers)


def fitted(preprocessing: Preprocessing, spec: AnySpec) -> Preprocessing:
    """A row's preprocessing for the size and the channels of a spec; gray images take the mean over colors."""
    changes: dict[str, Any] = {"size": spec.img_size}
    if len(preprocessing.mean) != spec.in_chans:
        mean, std = preprocessing.mean, preprocessing.std
        changes["mean"] = (sum(mean) / len(mean),) * spec.in_chans
        changes["std"] = (sum(std) / len(std),) * spec.in_chans
    return preprocessing.with_changes(**changes)
