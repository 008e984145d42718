"""The same model with maps (B, C, H, W) between its blocks instead of tokens, which graph engines run faster.

PyTorch sees tokens as ``channels_last`` maps and pays nothing for it. An engine that reads a graph sees a transposition
at every convolution and pooling; it runs 1 × 1 convolutions with the activation and the sum behind them in one pass,
and chooses the memory layout itself. Stages whose mixer needs tokens (attention, matrices over the positions), or that
have prefix tokens, stay as they are.
"""

from __future__ import annotations

import copy
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..model.backbone import Backbone, Stage
from ..model.block import Block
from ..model.embed import ConvEmbedding, NoPosition
from ..model.inputs import check_images
from ..model.layers import Affine, ChannelMLP, GroupNorm, Scale
from ..model.mixers.convolution import DepthwiseConv, OnMap, SeparableConv
from ..model.mixers.pooling import Identity, Pooling
from ..model.tokens import MaskedTokens, to_map, to_tokens
from ..types import Grid
from .folded_modules import PooledBlock, PooledResidual, ScaledPooling


def as_maps(model: nn.Module) -> nn.Module:
    """A copy whose stages work on maps where all of their blocks can; the results are the same to rounding.

    Args:
        model: folded or not; any module with a backbone of this library in it. Others come back as plain copies.

    Returns:
        A module of the same class and call, in evaluation mode, without gradients.
    """
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for parent in list(model.modules()):
            for name, part in list(parent.named_children()):
                if type(part) is Backbone:
                    setattr(parent, name, MapBackbone(part))
            if isinstance(parent, Backbone):
                _map_stages(parent, handed_on=False)
    return _write_out(model)


def written_out(model: nn.Module) -> nn.Module:
    """A copy with tokens as they were, and norms over them as sums and products that engines can join with others."""
    return _write_out(copy.deepcopy(model).eval())


def _write_out(model: nn.Module) -> nn.Module:
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, GroupNorm):
                setattr(parent, name, WrittenGroupNorm(part, maps=False))
            elif isinstance(part, PooledResidual):
                setattr(parent, name, OnMap(PooledMapResidual(part)))
    return model.eval().requires_grad_(False)


def _map_stages(backbone: Any, handed_on: bool) -> None:
    stages = backbone.stages
    for i, stage in enumerate(stages):
        if _can_be_maps(stage):
            next_too = handed_on and i + 1 < len(stages) and _can_be_maps(stages[i + 1])
            stages[i] = MapStage(stage, gives_map=next_too)


class MapBackbone(Backbone):
    """Images through all stages; what goes from one stage of maps to the next is a map."""

    def __init__(self, backbone: Any) -> None:
        super().__init__(list(backbone.stages), backbone.input_part)
        _map_stages(self, handed_on=True)

    def enter(self, inputs: Tensor, mask: Tensor | None = None) -> MaskedTokens:
        """The image as it is where the first stage takes it so."""
        if not isinstance(self.stages[0], MapStage):
            return super().enter(inputs, mask)
        check_images(inputs, self.input_part.in_chans)  # type: ignore[arg-type]
        return inputs, (inputs.shape[2], inputs.shape[3]), None

    def intermediates(self, inputs: Tensor, by_block: bool = False, mask: Tensor | None = None) -> list[MaskedTokens]:
        """What each stage leaves, or each block; the last is what ``forward`` gives."""
        seen = super().intermediates(inputs, by_block, mask)
        return [(to_tokens(x) if x.ndim == 4 else x, grid, real) for x, grid, real in seen]

    def up_to(self, last: int, by_block: bool = False) -> Backbone:
        """Raises, since a part of a compiled graph is no backbone of its own."""
        raise InputError("a model of maps cannot be cut: cut the model first, then bring it to maps")


class MapStage(Stage):
    """A stage that works on a map; it takes tokens or a map, and gives tokens unless the next stage takes maps too."""

    def __init__(self, stage: Stage, gives_map: bool = False) -> None:
        super().__init__(
            embed=MapEmbedding(stage.embed),
            prefix=stage.prefix,
            position=stage.position,
            blocks=[_map_block(block) for block in stage.blocks],
        )
        self.gives_map = gives_map

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, tap: Any = None) -> MaskedTokens:
        """(B, N, C) or (B, C, H, W) on a grid to the same of the stage's own."""
        m = self.embed(x if x.ndim == 4 else to_map(x, grid))
        grid = (m.shape[2], m.shape[3])
        if not isinstance(self.position, NoPosition):
            m = to_map(self.position(to_tokens(m), grid), grid)
        for block in self.blocks:
            m = block(m)
            if tap is not None:
                tap(to_tokens(m), grid, None)
        return m if self.gives_map else to_tokens(m), grid, None


class MapEmbedding(nn.Module):
    """``ConvEmbedding`` on a map."""

    def __init__(self, embed: Any) -> None:
        super().__init__()
        self.pre_norm, self.conv, self.post_norm = _map_layer(embed.pre_norm), embed.conv, _map_layer(embed.post_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        return self.post_norm(self.conv(self.pre_norm(x)))


class MapBlock(nn.Module):
    """The formula on a map (MetaFormer, equations 2 and 3)."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.mixer = _map_layer(block.norm1), _map_layer(block.mixer)
        self.branch1, self.skip1, self.out_norm1 = map(_map_layer, (block.branch1, block.skip1, block.out_norm1))
        self.norm2, self.mlp = _map_layer(block.norm2), _map_layer(block.mlp)
        self.branch2, self.skip2, self.out_norm2 = map(_map_layer, (block.branch2, block.skip2, block.out_norm2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = self.out_norm1(self.skip1(x) + self.branch1(self.mixer(self.norm1(x))))
        x = self.out_norm2(self.skip2(x) + self.branch2(self.mlp(self.norm2(x))))
        return x


class PooledMapBlock(nn.Module):
    """``PooledBlock`` on a map."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.pooled, self.norm2, self.mlp = map(_map_layer, (block.pooled, block.norm2, block.mlp))
        self.branch2, self.skip2 = _map_layer(block.branch2), _map_layer(block.skip2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = self.pooled(x)
        x = self.skip2(x) + self.branch2(self.mlp(self.norm2(x)))
        return x


class WrittenGroupNorm(nn.Module):
    """Group norm of one group, written out: two sums that engines read in a pass each, then x · a + b in one more.

    As an operation of its own it stops engines from joining it with its neighbors, and OpenVINO's int8 graphs may
    answer in another shape behind it.
    """

    def __init__(self, norm: Any, *, maps: bool) -> None:
        super().__init__()
        self.eps = norm.eps
        self.affine = WrittenAffine(norm.weight, norm.bias, maps=maps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; (B, N, C) where it was not built for maps."""
        mean, deviation = moments(x, self.eps)
        return self.affine(x * deviation - mean * deviation)


def moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and one over the standard deviation of each image's numbers, both (B, 1, 1) or (B, 1, 1, 1) as x has axes.

    The variance is the mean of the squares less the square of the mean, so that no centered copy is written. It loses
    digits where a mean is many deviations away from zero; no trained model here does that, and ``compile`` compares
    every engine with the original.
    """
    axes = tuple(range(1, x.ndim))
    mean, count = x.mean(axes, keepdim=True), prod(x.shape[1:])
    variance = torch.linalg.vector_norm(x, 2, axes, keepdim=True).square() / count - mean.square()
    return mean, (variance.clamp(min=0) + eps).rsqrt()


class MapLayerNorm(nn.Module):
    """Each place over its channels, written out: PyTorch wants the channels last, and a graph would move them twice."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.eps, self.affine = norm.eps, WrittenAffine(norm.weight, norm.bias, maps=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        centered = x - x.mean(1, keepdim=True)
        return self.affine(centered * (centered.square().mean(1, keepdim=True) + self.eps).rsqrt())


class WrittenAffine(nn.Module):
    """Scale and shift of each channel, of which a folded norm may have neither."""

    def __init__(self, weight: Tensor | None, bias: Tensor | None, *, maps: bool) -> None:
        super().__init__()
        shape = (-1, 1, 1) if maps else (-1,)
        self.weight = None if weight is None else nn.Parameter(weight.view(shape))
        self.bias = None if bias is None else nn.Parameter(bias.view(shape))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; (B, N, C) where it was not built for maps."""
        x = x if self.weight is None else x * self.weight
        return x if self.bias is None else x + self.bias


class MapPooling(nn.Module):
    """``Pooling`` and ``ScaledPooling`` on a map."""

    def __init__(self, mixer: Pooling | ScaledPooling) -> None:
        super().__init__()
        self.kernel, self.subtract = mixer.kernel, mixer.subtract
        self.factor = nn.Parameter(mixer.factor[:, None, None]) if isinstance(mixer, ScaledPooling) else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        pooled = neighborhood(x, self.kernel)
        mixed = pooled - x if self.subtract else pooled
        return mixed if self.factor is None else mixed * self.factor


class PooledMapResidual(nn.Module):
    """``PooledResidual`` on a map with ``moments``; ``torch.lerp`` becomes a choice between two formulas."""

    def __init__(self, pooled: PooledResidual) -> None:
        super().__init__()
        self.factor = nn.Parameter(pooled.factor[:, None, None])
        self.eps, self.kernel = pooled.eps, pooled.kernel

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        _, deviation = moments(x, self.eps)
        return x + (self.factor * deviation) * (neighborhood(x, self.kernel) - x)


def neighborhood(x: Tensor, kernel: int) -> Tensor:
    """The average of each place's neighbors; places outside the map do not count."""
    return F.avg_pool2d(x, kernel, stride=1, padding=kernel // 2, count_include_pad=False)


def _can_be_maps(stage: nn.Module) -> bool:
    return (
        isinstance(stage, Stage)
        and isinstance(stage.embed, ConvEmbedding)
        and isinstance(stage.prefix, nn.Identity)
        and all(isinstance(block, (Block, PooledBlock)) and _block_can(block) for block in stage.blocks)
    )


def _block_can(block: Any) -> bool:
    if isinstance(block, PooledBlock):
        return _layer_can(block.norm2)
    norms = (block.norm1, block.norm2, block.out_norm1, block.out_norm2)
    return all(map(_layer_can, norms)) and isinstance(block.mixer, _MIXERS)


def _layer_can(norm: nn.Module) -> bool:
    return isinstance(norm, (GroupNorm, nn.LayerNorm, Affine, nn.Identity))


_MIXERS = (Identity, Pooling, ScaledPooling, DepthwiseConv, SeparableConv, OnMap)


def _map_block(block: nn.Module) -> nn.Module:
    return PooledMapBlock(block) if isinstance(block, PooledBlock) else MapBlock(block)


def _map_layer(part: Any) -> nn.Module:
    """A part of a block as it stands in one of maps."""
    if isinstance(part, nn.Sequential):
        return nn.Sequential(*map(_map_layer, part))
    if isinstance(part, ChannelMLP):
        return nn.Sequential(_pointwise(part.fc1), part.act, _pointwise(part.fc2))
    if isinstance(part, SeparableConv):
        return nn.Sequential(_pointwise(part.pwconv1), part.act, part.dwconv, _pointwise(part.pwconv2))
    for kind, make in _MAPS.items():
        if isinstance(part, kind):
            return make(part)
    return part


_MAPS: dict[Any, Any] = {
    GroupNorm: lambda norm: WrittenGroupNorm(norm, maps=True),
    Affine: lambda affine: WrittenAffine(affine.weight, affine.bias, maps=True),
    Scale: lambda scale: WrittenAffine(scale.scale, None, maps=True),
    nn.LayerNorm: MapLayerNorm,
    PooledResidual: PooledMapResidual,
    (Pooling, ScaledPooling): MapPooling,
    Identity: lambda mixer: nn.Identity(),
    DepthwiseConv: lambda mixer: mixer.conv,
    OnMap: lambda mixer: mixer.module,
}
"""What stands for a part in a block of maps."""


def _pointwise(layer: nn.Linear) -> nn.Conv2d:
    """A linear layer over the channels as a 1 × 1 convolution."""
    conv = nn.Conv2d(layer.in_features, layer.out_features, 1, bias=layer.bias is not None)
    conv.weight = nn.Parameter(layer.weight[:, :, None, None], requires_grad=False)
    if layer.bias is not None:
        conv.bias = nn.Parameter(layer.bias, requires_grad=False)
    return conv
