"""``create_model``: a name or a spec to a model, with timm's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from ..errors import InputError
from ..model.build import Model, build
from ..model.classifier import Classifier, FeatureExtractor, check_pooling
from ..model.timm_cnn import TimmFeatures
from ..spec.mixer import MixersLike
from ..spec.model import AnySpec, ModelSpec, TimmSpec
from ..types import Preprocessing
from ..zoo.catalogue import find

if TYPE_CHECKING:
    from pathlib import Path

    from ..weights.load import StateDict

Extractor = FeatureExtractor | TimmFeatures
"""What ``features_only=True`` gives; both answer to the same calls."""


class ModelOptions(TypedDict, total=False):
    """Arguments of ``create_model`` that do not change the type of what it returns; they are described there."""

    pretrained: bool
    weights: StateDict | str | Path | None
    checkpoint_path: str | Path
    num_classes: int | None
    in_chans: int | None
    img_size: int | Sequence[int] | None
    global_pool: str | None
    drop_path_rate: float | None
    drop_rate: float | None
    mixers: MixersLike | None
    stem_stride: int | None
    timm_head: bool


@overload
def create_model(
    name: ModelSpec, *, features_only: Literal[False] = False, out_indices: None = None, **options: Unpack[ModelOptions]
) -> Classifier: ...


@overload
def create_model(
    name: str | AnySpec,
    *,
    features_only: Literal[False] = False,
    out_indices: None = None,
    **options: Unpack[ModelOptions],
) -> Model: ...


@overload
def create_model(
    name: str | AnySpec,
    *,
    features_only: Literal[True],
    out_indices: Sequence[int] | int | None = None,
    **options: Unpack[ModelOptions],
) -> Extractor: ...


def create_model(
    name: str | AnySpec,
    *,
    pretrained: bool = False,
    weights: StateDict | str | Path | None = None,
    checkpoint_path: str | Path = "",
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | Sequence[int] | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | int | None = None,
    global_pool: str | None = None,
    drop_path_rate: float | None = None,
    drop_rate: float | None = None,
    mixers: MixersLike | None = None,
    stem_stride: int | None = None,
    timm_head: bool = False,
) -> Model | Extractor:
    """A published model by its name, or a model of a spec of your own.

    Args:
        name: a model's name (``list_models()``), a ``ModelSpec``, or a ``TimmSpec``, with which ``mixers``,
            ``stem_stride`` and ``timm_head`` make no sense and are refused.
        pretrained: load the published weights (downloaded once, then read from the cache).
        weights: load these instead: a state dict, a file, a run's folder, or a hub id.
        checkpoint_path: a file of weights, as timm calls it.
        num_classes: width of the scores; 0 gives pooled features (B, C).
        in_chans: channels of the images, 3 in every published model; published stems are summed or repeated to fit.
        img_size: side, or height and width, in pixels that position tables and mixers tied to a grid are built for.
        features_only: give the maps of the stages instead of scores.
        out_indices: which stages, counted from 0, or how many of the last.
        global_pool: the model's own pooling as timm calls it, ``avg`` or ``token``; any other is refused.
        drop_path_rate: stochastic depth of the last block.
        drop_rate: dropout before the last linear layer.
        mixers: other token mixers, one for all stages or one for each: a name, ``"pooling(kernel=5)"``,
            ``("attention", {"head_dim": 64})``, or any callable that takes the width and returns a module with
            ``forward(x, grid, mask=None)``.
        stem_stride: step of the first convolution; 1 or 2 for small images, 4 as published.
        timm_head: final norm behind the pooling and over channels, as timm's PoolFormer does it, instead of the
            original's order; the same weights, slightly other scores.

    Returns:
        ``Classifier``, or ``FeatureExtractor`` where ``features_only``; for timm's CNNs ``TimmClassifier`` and
        ``TimmFeatures``, which answer to the same calls.

    Raises:
        InputError: an unknown name or mixer, or an argument that does not fit; the message says which.
    """
    if not isinstance(name, (str, ModelSpec, TimmSpec)):
        raise InputError(f"name: expected a model's name or a ModelSpec, got {name!r}; list_models() gives the names")
    if out_indices is not None and not features_only:
        raise InputError(
            "out_indices: expected features_only=True with it; forward_intermediates(indices=...) "
            "gives maps of a whole model"
        )
    base, published_as, preprocessing = look_up(name)
    spec = adapt_spec(
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
    check_pooling(global_pool, spec)
    model = build(spec, published_as, adapt_preprocessing(preprocessing, spec))
    _load(model, pretrained, weights if weights is not None else checkpoint_path or None)
    if not features_only:
        return model
    return FeatureExtractor(model, out_indices) if isinstance(model, Classifier) else TimmFeatures(model, out_indices)


def look_up(name: str | AnySpec) -> tuple[AnySpec, str, Preprocessing]:
    """The spec of a published model, its name and its preprocessing; a spec of one's own is called ``custom``."""
    if isinstance(name, str):
        row = find(name)
        return row.spec, row.name, row.preprocessing
    return name, "custom", Preprocessing(size=name.img_size)


def _load(model: Model, pretrained: bool, weights: StateDict | str | Path | None) -> None:
    if not pretrained and weights is None:
        return
    # Imported late: readers of checkpoints and the hub's client take time that a fresh model need not wait for.
    from ..weights.load import load_pretrained, load_weights

    if weights is not None:
        load_weights(model, weights)
    else:
        load_pretrained(model)


def adapt_spec(
    spec: AnySpec,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    img_size: int | Sequence[int] | None = None,
    drop_path_rate: float | None = None,
    drop_rate: float | None = None,
    mixers: MixersLike | None = None,
    stem_stride: int | None = None,
    timm_head: bool = False,
) -> AnySpec:
    """A spec with the arguments of ``create_model`` worked in; None leaves what it says."""
    given = {"in_chans": in_chans, "num_classes": num_classes, "drop_path_rate": drop_path_rate}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
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


def adapt_preprocessing(preprocessing: Preprocessing, spec: AnySpec) -> Preprocessing:
    """A model's preprocessing for the size and the channels of a spec; gray images take the mean over colors."""
    changes: dict[str, Any] = {"size": spec.img_size}
    # One mean for all channels: which of the published ones is whose is unknown once channels are added or removed.
    if len(preprocessing.mean) != spec.in_chans:
        mean, std = preprocessing.mean, preprocessing.std
        changes["mean"] = (sum(mean) / len(mean),) * spec.in_chans
        changes["std"] = (sum(std) / len(std),) * spec.in_chans
    return preprocessing.with_changes(**changes)
