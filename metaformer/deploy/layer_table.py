"""The one table of layers: how each kind is folded, and what replaces it on maps. A new mixer needs one line here.

Layers that are not in the table work too: nothing is folded into them, and their stage keeps its tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..model.heads import MLPHidden
from ..model.layers import Affine, ChannelMLP, DropPath, GroupNorm, LayerNorm, NoSkip, Scale
from ..model.mixers.attention import Attention, ReducedAttention
from ..model.mixers.convolution import DepthwiseConv, OnMap, SeparableConv
from ..model.mixers.gating import GatingUnit
from ..model.mixers.pooling import Identity, Pooling
from ..model.mixers.window import Window
from .folded_modules import BareGroupNorm, PooledResidual, ScaledPooling
from .map_modules import (
    ChannelAffine,
    ExplicitGroupNorm,
    MapLayerNorm,
    MapMixer,
    MapPooledResidual,
    MapPooling,
    pointwise,
)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One kind of layer."""

    reads: str | None = None
    """The inner layer that reads its input, if it is the only one."""
    writes: str | None = None
    """The inner layer whose output is its output."""
    on_map: Callable[[Any], nn.Module] | None = None
    """What replaces it where the activations are maps (B, C, H, W); None where it needs tokens."""


def _mlp(mlp: ChannelMLP) -> nn.Module:
    return nn.Sequential(pointwise(mlp.fc1), mlp.act, pointwise(mlp.fc2))


def _separable(mixer: SeparableConv) -> nn.Module:
    return MapMixer(nn.Sequential(pointwise(mixer.pwconv1), mixer.act, mixer.dwconv, pointwise(mixer.pwconv2)))


def _group_norm(norm: GroupNorm) -> nn.Module:
    return ExplicitGroupNorm(norm, maps=True)


def _pooling(mixer: Pooling | ScaledPooling) -> nn.Module:
    return MapMixer(MapPooling(mixer))


def _unchanged(layer: nn.Module) -> nn.Module:
    return layer


LAYERS: dict[type[nn.Module], Layer] = {
    # channel MLP, classifier head
    ChannelMLP: Layer(reads="fc1", writes="fc2", on_map=_mlp),
    MLPHidden: Layer(reads="fc1"),
    # token mixers
    Identity: Layer(on_map=lambda mixer: MapMixer(nn.Identity())),
    Pooling: Layer(on_map=_pooling),
    ScaledPooling: Layer(on_map=_pooling),
    PooledResidual: Layer(on_map=lambda pooled: MapMixer(MapPooledResidual(pooled))),
    DepthwiseConv: Layer(reads="conv", writes="conv", on_map=lambda mixer: MapMixer(mixer.conv)),
    SeparableConv: Layer(reads="pwconv1", writes="pwconv2", on_map=_separable),
    OnMap: Layer(on_map=lambda mixer: MapMixer(mixer.module)),
    Attention: Layer(reads="qkv", writes="proj"),
    ReducedAttention: Layer(writes="proj"),  # two layers read its input, see ``fold``
    GatingUnit: Layer(reads="fc1", writes="fc2"),
    Window: Layer(writes="mixer"),  # its padding reads the input too
    # norms, scales, shortcuts
    GroupNorm: Layer(on_map=_group_norm),
    BareGroupNorm: Layer(on_map=_group_norm),
    LayerNorm: Layer(on_map=MapLayerNorm),
    nn.LayerNorm: Layer(on_map=MapLayerNorm),
    Affine: Layer(on_map=lambda affine: ChannelAffine(affine.weight, affine.bias, maps=True)),
    Scale: Layer(on_map=lambda scale: ChannelAffine(scale.scale, None, maps=True)),
    nn.Identity: Layer(on_map=_unchanged),
    DropPath: Layer(on_map=_unchanged),
    NoSkip: Layer(on_map=_unchanged),
}


def layer_of(module: nn.Module) -> Layer:
    """The table's line for a module. A subclass has none of its own: its ``forward`` may do something else."""
    return LAYERS.get(type(module), Layer())


def on_map(module: nn.Module) -> nn.Module | None:
    """What replaces a part of a block on maps; None if it needs tokens."""
    if isinstance(module, nn.Sequential):
        replaced = [on_map(part) for part in module]
        return None if None in replaced else nn.Sequential(*(part for part in replaced if part is not None))
    replace = layer_of(module).on_map
    return None if replace is None else replace(module)
