"""From a spec to modules: the only file that uses both.

It has the table of mixers, the drop-path schedule and the initialization. Modules take plain arguments and built parts,
never a spec.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, get_type_hints, overload

import torch
from torch import Tensor, nn

from ..errors import InputError, SpecError, did_you_mean
from ..records import mismatch
from ..spec.mixer import Mixer, MixerSpec, as_mixer
from ..spec.model import AnySpec, HeadSpec, ModelSpec, NormSpec, ResidualSpec, StageSpec, TimmSpec
from ..types import Grid, Preprocessing
from .backbone import Backbone, Entry, Stage
from .block import Block, Branch, MixingBlock
from .classifier import Classifier
from .embed import ConvEmbedding, MergeEmbedding, NoEmbedding, NoPosition, Position, PrefixTokens, TokenEmbedding
from .heads import AveragedLinear, AveragedTokens, FirstReadout, Head, MeanReadout, MLPHidden, NoReadout, TokenReadout
from .inputs import Pixels, TokenIds
from .layers import ACTIVATIONS, Affine, BatchNorm, ChannelMLP, DropPath, GroupNorm, LayerNorm, NoSkip, Scale
from .mixers.attention import Attention, ReducedAttention, RelativePosition
from .mixers.convolution import DepthwiseConv, SeparableConv
from .mixers.fourier import Fourier
from .mixers.gating import GatingUnit
from .mixers.pooling import Identity, Pooling
from .mixers.spatial import RandomMixing, SpatialFC, SpatialMLP
from .mixers.window import Window
from .timm_cnn import TimmClassifier

MIXERS: dict[str, Callable[..., nn.Module]] = {
    "identity": Identity,
    "pooling": Pooling,
    "random": RandomMixing,
    "depthwise_conv": DepthwiseConv,
    "separable_conv": SeparableConv,
    "attention": Attention,
    "reduced_attention": ReducedAttention,
    "spatial_fc": SpatialFC,
    "spatial_mlp": SpatialMLP,
    "gating_unit": GatingUnit,
    "fourier": Fourier,
    "window": Window,
}
"""Mixers by the names that the command line and saved runs use. In Python the class itself can be passed."""

TIED_TO_GRID: dict[type[nn.Module], dict[str, int]] = {
    SpatialFC: {"fc.weight": 1},
    SpatialMLP: {"fc1.weight": 1, "fc2.weight": 0, "fc2.bias": 0},
    GatingUnit: {"fc.weight": 1, "fc.bias": 0},
    RandomMixing: {"matrix": 1},
    RelativePosition: {"table": 0},
}
"""Parts of mixers that only fit the grid they were built for: which axis of which tensor runs over its positions."""

PLACE = ("dim", "grid", "prefix_tokens", "block", "make")
"""Arguments that a mixer gets from the place it is built for, if its signature has them. All others are its own."""

NORMS: dict[str, Callable[..., nn.Module]] = {
    "layer": LayerNorm,
    "group": GroupNorm,
    "batch": BatchNorm,
    "affine": lambda dim, eps, bias: Affine(dim, bias=bias),
    "none": lambda dim, eps, bias: nn.Identity(),
}


Model = Classifier | TimmClassifier
"""The model of a spec; both classes have the same methods."""


@overload
def build(spec: ModelSpec, name: str = "", preprocessing: Preprocessing | None = None) -> Classifier: ...
@overload
def build(spec: TimmSpec, name: str = "", preprocessing: Preprocessing | None = None) -> TimmClassifier: ...
@overload
def build(spec: AnySpec, name: str = "", preprocessing: Preprocessing | None = None) -> Model: ...
def build(spec: AnySpec, name: str = "", preprocessing: Preprocessing | None = None) -> Model:
    """A classifier from its spec, freshly initialized.

    Raises:
        SpecError: a part that cannot be built; the message has its path in the spec.
    """
    preprocessing = preprocessing or Preprocessing(size=spec.img_size)
    if isinstance(spec, TimmSpec):
        return TimmClassifier(spec, name=name, preprocessing=preprocessing)
    model = Classifier(
        build_backbone(spec),
        build_head(spec),
        spec=spec,
        name=name,
        preprocessing=preprocessing,
        make_head=build_head,
    )
    initialize(model, spec.init)
    return model


def build_backbone(spec: ModelSpec) -> Backbone:
    """All stages of a spec."""
    rates = drop_path_rates(spec)
    stages, in_dim, prefix = [], spec.tokens.vocab_size if spec.tokens else spec.in_chans, 0
    for i, (stage, grid) in enumerate(zip(spec.stages, spec.grids(), strict=True)):
        prefix += stage.prefix_tokens
        place = {"grid": grid, "prefix_tokens": prefix}
        stages.append(_stage(stage, in_dim, place, rates[i], f"stages[{i}]"))
        in_dim = stage.width
    return Backbone(stages, TokenIds(spec.tokens.vocab_size) if spec.tokens else Pixels(spec.in_chans))


def drop_path_rates(spec: ModelSpec) -> list[list[float]]:
    """The rate of each block, by stage: linear over the whole depth, or constant."""
    depths = [stage.depth for stage in spec.stages]
    peak, total = spec.drop_path_rate, sum(depths)
    flat = [peak if spec.drop_path_rule == "constant" else peak * k / max(total - 1, 1) for k in range(total)]
    starts = [sum(depths[:i]) for i in range(len(depths))]
    return [flat[start : start + depth] for start, depth in zip(starts, depths, strict=True)]


def _stage(stage: StageSpec, in_dim: int, place: dict[str, Any], rates: list[float], path: str) -> Stage:
    embedding = stage.embedding
    behind_positions = embedding.norm if embedding.kind == "token" else None
    return Stage(
        embed=_embedding(stage, in_dim, line=len(place["grid"]) == 1),
        prefix=PrefixTokens(stage.width, stage.prefix_tokens) if stage.prefix_tokens else nn.Identity(),
        position=_position(stage, place) if stage.position else NoPosition(),
        entry=Entry(build_norm(behind_positions, stage.width), embedding.dropout),
        blocks=[_block(stage, {**place, "block": j}, rate, path) for j, rate in enumerate(rates)],
    )


def _position(stage: StageSpec, place: Mapping[str, Any]) -> Position:
    return Position(
        stage.width, grid=place["grid"], prefix_tokens=place["prefix_tokens"], resampling=stage.position_resampling
    )


def _embedding(stage: StageSpec, in_dim: int, line: bool) -> nn.Module:
    spec = stage.embedding
    if spec.kind == "none":
        if in_dim != stage.width:
            raise SpecError(f"embedding.kind: 'none' keeps the width {in_dim}, but the stage has {stage.width}")
        return NoEmbedding()
    if spec.kind == "token":
        return TokenEmbedding(in_dim, stage.width)
    if spec.kind == "merge":
        return MergeEmbedding(in_dim, stage.width, norm=build_norm(spec.norm, (2 if line else 4) * in_dim), line=line)
    before = spec.norm if spec.norm_position == "before" else None
    after = spec.norm if spec.norm_position == "after" else None
    return ConvEmbedding(
        in_dim,
        stage.width,
        kernel=spec.kernel,
        stride=spec.stride,
        padding=spec.padding,
        pre_norm=build_norm(before, in_dim),
        post_norm=build_norm(after, stage.width),
        line=line,
    )


def _block(stage: StageSpec, place: dict[str, Any], rate: float, path: str) -> nn.Module:
    # Parts draw their random numbers in the order in which they are built. It must stay, or seeds give other weights.
    first = _residual(stage.residual, stage.norm, stage.width, rate)
    parts = {f"{key}1": part for key, part in first.items()}
    mixer = build_mixer(stage.mixer, stage.width, place, f"{path}.mixer")
    if stage.mlp is None:
        return MixingBlock(mixer=mixer, **parts)
    second = _residual(stage.residual, stage.norm, stage.width, rate)
    parts |= {f"{key}2": part for key, part in second.items()}
    spec = stage.mlp
    hidden = int(stage.width * spec.ratio)
    mlp = ChannelMLP(stage.width, hidden, ACTIVATIONS[spec.activation](), bias=spec.bias, dropout=spec.dropout)
    return Block(mixer=mixer, mlp=mlp, **parts)


def _residual(spec: ResidualSpec, norm: NormSpec, dim: int, rate: float) -> dict[str, nn.Module]:
    branch: dict[str, nn.Module] = {}
    if spec.layer_scale is not None:
        branch["layer_scale"] = Scale(dim, spec.layer_scale)
    if rate > 0:
        branch["drop_path"] = DropPath(rate)
    shortcut = nn.Identity() if spec.skip_scale is None else Scale(dim, spec.skip_scale)
    before = spec.norm_position == "before"
    return {
        "norm": build_norm(norm if before else None, dim),
        "out_norm": build_norm(None if before else norm, dim),
        "branch": Branch(OrderedDict(branch)),
        "skip": shortcut if spec.on else NoSkip(),
    }


def build_norm(spec: NormSpec | None, dim: int) -> nn.Module:
    """A norm over ``dim`` channels; an identity for None."""
    return nn.Identity() if spec is None else NORMS[spec.kind](dim, eps=spec.eps, bias=spec.bias)


def build_mixer(mixer: Mixer, dim: int, place: Mapping[str, Any], path: str = "mixer") -> nn.Module:
    """A token mixer for one block, checked to keep the shape of its tokens.

    ``place`` describes the block's place: ``grid``, ``prefix_tokens``, ``block`` (its number in the stage). A mixer is
    called with the width and with those of them that its signature has, and with ``make`` if it wraps another mixer.
    """
    factory, args = _factory(mixer, path)

    def make(inner: object, width: int, grid: Grid) -> nn.Module:
        where = f"{path}.mixer"
        # The inner mixer gets a window's tokens, which have no prefix tokens among them.
        return build_mixer(as_mixer(inner, where), width, {**place, "grid": grid, "prefix_tokens": 0}, where)

    wanted = inspect.signature(factory).parameters
    known = {key: value for key, value in {**place, "make": make}.items() if key in wanted}
    try:
        module = factory(dim, **known, **args)
    except SpecError as error:
        raise SpecError(f"{error}" if f"{error}".startswith(path) else f"{path}.{error}") from None
    except InputError:
        raise
    except Exception as error:  # a user's mixer can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise SpecError(f"{path}: {mixer} cannot be built for the width {dim}: {reason}") from error
    if not isinstance(module, nn.Module):
        raise SpecError(f"{path}: expected {mixer} to build a torch module, got {type(module).__name__}")
    _check_shape(module, dim, place, path)
    return module


def _factory(mixer: Mixer, path: str) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    if not isinstance(mixer, MixerSpec):
        return mixer, {}
    if mixer.name not in MIXERS:
        raise SpecError(f"{path}: unknown mixer {mixer.name!r}. {did_you_mean(mixer.name, MIXERS)}")
    factory = MIXERS[mixer.name]
    kinds = get_type_hints(getattr(factory, "__init__", factory))
    allowed = [p for p in inspect.signature(factory).parameters if p not in PLACE]
    for key in mixer.args:
        if key not in allowed:
            known = did_you_mean(key, allowed) if allowed else "It takes none."
            raise SpecError(f"{path}: {mixer.name} has no argument {key!r}. {known}")
        problem = mismatch(mixer.args[key], kinds.get(key, Any))
        if problem:
            raise SpecError(f"{path}.{key}: {problem}")
    return factory, dict(mixer.args)


def _check_shape(module: nn.Module, dim: int, place: Mapping[str, Any], path: str) -> None:
    """Run a user's mixer once, so that a mistake is reported here and not in the middle of a forward pass."""
    if isinstance(module, tuple(kind for kind in MIXERS.values() if isinstance(kind, type))):
        return
    grid: Grid = place["grid"]
    count = place["prefix_tokens"] + prod(grid)
    was_training = module.training
    # Random numbers are restored afterwards, so that a user's mixer does not change the initial weights of other parts.
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            x = torch.randn(2, count, dim)
            y = module.eval()(x, grid, None)
    except InputError:
        raise
    except Exception as error:
        raise SpecError(
            f"{path}: {type(module).__name__} failed on tokens {(2, count, dim)} with grid {grid}: "
            f"{type(error).__name__}: {error}. A mixer is called as mixer(x, grid, mask) and keeps x's shape; "
            "OnMap(module) wraps a module of maps (B, C, H, W)."
        ) from error
    finally:
        module.train(was_training)
    if not isinstance(y, Tensor) or y.shape != x.shape:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise SpecError(
            f"{path}: {type(module).__name__} must keep the shape of its tokens: expected {tuple(x.shape)}, got {got}"
        )


def build_head(spec: ModelSpec) -> Head:
    """Readout, final norm and classifier, initialized as the spec says."""
    head, dim = spec.head, spec.stages[-1].width
    before = head.norm if head.norm_position == "before" else None
    after = head.norm if head.norm_position == "after" else None
    prefix = sum(stage.prefix_tokens for stage in spec.stages)
    built = Head(
        pre_norm=build_norm(before, dim),
        readout=_readout(head, prefix),
        norm=build_norm(after, dim),
        hidden=_hidden(spec),
        fc=_last_layer(spec, prefix),
    )
    initialize(built, spec.init)
    return built


def _readout(head: HeadSpec, prefix: int) -> nn.Module:
    if head.readout == "token" and prefix == 0:
        return FirstReadout()
    if head.readout == "token":
        return TokenReadout(prefix if head.kind == "averaged" else 1)
    return MeanReadout() if head.readout == "mean" else NoReadout()


def _hidden(spec: ModelSpec) -> nn.Module:
    head, dim = spec.head, spec.stages[-1].width
    if spec.num_classes == 0:
        return nn.Identity()
    if head.kind == "mlp":
        return MLPHidden(dim, int(dim * head.mlp_ratio), norm_eps=head.mlp_norm_eps, dropout=head.dropout)
    return nn.Dropout(head.dropout)


def _last_layer(spec: ModelSpec, prefix: int) -> nn.Module:
    head, dim = spec.head, spec.stages[-1].width
    if spec.num_classes == 0:
        return AveragedTokens() if head.kind == "averaged" else nn.Identity()
    if head.kind == "averaged":
        return AveragedLinear(dim, spec.num_classes, prefix)
    return nn.Linear(int(dim * head.mlp_ratio) if head.kind == "mlp" else dim, spec.num_classes)


def initialize(module: nn.Module, preset: str) -> None:
    """Fill the weights by a preset of ``ModelSpec.init``; a part's own ``initialize()`` runs after it.

    ``poolformer`` and ``vit`` leave convolutions as PyTorch makes them: the original codes initialize only linear
    layers (and the 1 × 1 convolutions of PoolFormer's channel MLP).
    """
    for part in module.modules():
        PRESETS[preset](part)
    # A second pass: a preset fills the layers inside a part after the part itself, and would overwrite its own values.
    for part in module.modules():
        own = getattr(part, "initialize", None)
        if callable(own):
            own()
        if isinstance(part, Head) and preset in ZERO_HEAD:
            for tensor in part.fc.parameters():
                nn.init.zeros_(tensor)


def _as_torch(part: nn.Module) -> None:
    """PyTorch's own values."""


def _linear_normal(part: nn.Module) -> None:
    if isinstance(part, (nn.Linear, TokenEmbedding)):
        _normal(part)


def _all_normal(part: nn.Module) -> None:
    if isinstance(part, (nn.Linear, nn.Conv2d, TokenEmbedding)):
        _normal(part)


def _normal(part: nn.Linear | nn.Conv2d | TokenEmbedding) -> None:
    nn.init.trunc_normal_(part.weight, std=0.02)
    if not isinstance(part, TokenEmbedding) and part.bias is not None:
        nn.init.zeros_(part.bias)


def _vit(part: nn.Module) -> None:
    _linear_normal(part)
    if isinstance(part, Position):
        nn.init.trunc_normal_(part.table, std=0.02)
    if isinstance(part, PrefixTokens):
        nn.init.trunc_normal_(part.tokens, std=0.02)


def _xavier(part: nn.Module) -> None:
    if isinstance(part, TokenEmbedding):
        _normal(part)
    if isinstance(part, nn.Linear):
        nn.init.xavier_uniform_(part.weight)
        if part.bias is not None:
            nn.init.normal_(part.bias, std=1e-6)
    if isinstance(part, nn.Conv2d):
        nn.init.kaiming_normal_(part.weight, nonlinearity="linear")  # LeCun's: a variance of 1 / fan-in
        if part.bias is not None:
            nn.init.zeros_(part.bias)


PRESETS: dict[str, Callable[[nn.Module], None]] = {
    "torch": _as_torch,
    "poolformer": _linear_normal,
    "trunc_normal": _all_normal,
    "vit": _vit,
    "xavier": _xavier,
}
ZERO_HEAD = ("xavier",)
"""Presets that set the last layer to zero."""
