"""The same model with maps (B, C, H, W) between its blocks instead of tokens, which graph engines run faster.

For PyTorch tokens are ``channels_last`` maps and cost nothing. An engine that reads a graph sees a transposition at
every convolution and pooling. On maps it runs a 1 × 1 convolution with the activation and the sum after it in one pass
and chooses the memory layout itself. Stages with a mixer that needs tokens (attention, matrices over the positions) or
with prefix tokens stay as they are.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..model.backbone import Backbone, Stage, Tap
from ..model.block import Block
from ..model.embed import ConvEmbedding, NoPosition
from ..model.inputs import Pixels, check_images
from ..model.layers import GroupNorm
from ..model.mixers.convolution import OnMap
from ..model.tokens import MaskedTokens, to_map, to_tokens
from ..types import Grid
from .folded_modules import PooledBlock, PooledResidual
from .layer_table import on_map
from .map_modules import ExplicitGroupNorm, MapPooledResidual


def as_maps(model: nn.Module) -> nn.Module:
    """A copy whose stages work on maps if all of their blocks can; the results are equal to rounding.

    Args:
        model: folded or not; any module that contains a backbone of this library. Others are only copied.

    Returns:
        A module of the same class and call, in evaluation mode, without gradients.
    """
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for parent in list(model.modules()):
            for name, part in list(parent.named_children()):
                if type(part) is Backbone:
                    setattr(parent, name, MapBackbone(part))
            # Backbones that are subclasses pass tokens between their stages.
            if isinstance(parent, Backbone):
                _map_stages(parent.stages, between_stages=False)
    return _explicit_norms(model)


def with_explicit_norms(model: nn.Module) -> nn.Module:
    """A copy that keeps its tokens, with norms over them as sums and products that engines can join with others."""
    return _explicit_norms(copy.deepcopy(model).eval())


def _explicit_norms(model: nn.Module) -> nn.Module:
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, GroupNorm):
                setattr(parent, name, ExplicitGroupNorm(part, maps=False))
            elif isinstance(part, PooledResidual):
                setattr(parent, name, OnMap(MapPooledResidual(part)))
    return model.eval().requires_grad_(False)


def _map_stages(stages: nn.ModuleList, *, between_stages: bool) -> None:
    """Replace the stages that can work on maps; ``between_stages``: also pass maps from one to the next."""
    mapped = [_map_stage(stage) for stage in stages]
    for i, stage in enumerate(mapped):
        if stage is not None:
            stage.gives_map = between_stages and i + 1 < len(mapped) and mapped[i + 1] is not None
            stages[i] = stage


def _map_stage(stage: nn.Module) -> MapStage | None:
    if not isinstance(stage, Stage) or type(stage.embed) is not ConvEmbedding:
        return None
    embed = [on_map(stage.embed.pre_norm), stage.embed.conv, on_map(stage.embed.post_norm)]
    blocks = [_map_block(block) for block in stage.blocks]
    plain = isinstance(stage.prefix, nn.Identity) and isinstance(stage.entry.norm, nn.Identity)
    if not plain or None in embed or None in blocks:
        return None
    return MapStage(
        embed=nn.Sequential(*(part for part in embed if part is not None)),
        prefix=stage.prefix,
        position=stage.position,
        blocks=[block for block in blocks if block is not None],
    )


def _map_block(block: nn.Module) -> nn.Module | None:
    """The block with layers of maps; its formula is the same (MetaFormer, equations 2 and 3)."""
    kind = next((kind for kind in (Block, PooledBlock) if isinstance(block, kind)), None)
    parts = {name: on_map(part) for name, part in block.named_children()}
    return None if kind is None or None in parts.values() else kind(**parts)  # type: ignore[arg-type]


class MapBackbone(Backbone):
    """A backbone whose stages of maps pass maps to each other."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(list(backbone.stages), backbone.input_part)  # type: ignore[arg-type]
        _map_stages(self.stages, between_stages=True)

    def enter(self, inputs: Tensor, mask: Tensor | None = None) -> MaskedTokens:
        """The image itself if the first stage takes maps."""
        if not isinstance(self.stages[0], MapStage) or not isinstance(self.input_part, Pixels):
            return super().enter(inputs, mask)
        check_images(inputs, self.input_part.in_chans)
        return inputs, (inputs.shape[2], inputs.shape[3]), None

    def intermediates(self, inputs: Tensor, by_block: bool = False, mask: Tensor | None = None) -> list[MaskedTokens]:
        """The tokens after each stage, or each block; the last are those of ``forward``."""
        found = super().intermediates(inputs, by_block, mask)
        return [(to_tokens(x) if x.ndim == 4 else x, grid, real) for x, grid, real in found]

    def up_to(self, last: int, by_block: bool = False) -> Backbone:
        """Raises: a part of a compiled graph is not a backbone."""
        raise InputError("a model of maps cannot be truncated; truncate the model first, then convert it to maps")


class MapStage(Stage):
    """A stage that works on a map. It takes tokens or a map, and returns a map if ``gives_map``, else tokens."""

    gives_map = False

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, tap: Tap | None = None) -> MaskedTokens:
        """(B, N, C) or (B, C, H, W) on a grid to the same of the stage's own."""
        m = self.embed(x if x.ndim == 4 else to_map(x, grid))
        grid = (m.shape[2], m.shape[3])
        if not isinstance(self.position, NoPosition):
            m = to_map(self.position(to_tokens(m), grid), grid)
        for block in self.blocks:
            m = block(m, grid)
            if tap is not None:
                tap(to_tokens(m), grid, None)
        return m if self.gives_map else to_tokens(m), grid, None
