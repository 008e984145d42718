"""The stages of a model: from pixels or token ids to features, or to a pyramid of maps. It never sees a label."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..types import Grid
from .layers import OVER_TOKENS, normalize
from .tokens import MaskedTokens, check_mask, to_map

Tap = Callable[[Tensor, Grid, Tensor | None], None]
"""A function that is called with the tokens, their grid and their mask."""


class Stage(nn.Module):
    """An embedding, prefix tokens and positions if any, then blocks of one width.

    ``entry`` comes between the positions and the first block: a norm and dropout, by default neither.
    """

    def __init__(
        self,
        *,
        embed: nn.Module,
        prefix: nn.Module,
        position: nn.Module,
        blocks: Sequence[nn.Module],
        entry: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embed, self.prefix, self.position = embed, prefix, position
        self.entry = entry or Entry()
        self.blocks = nn.ModuleList(blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, tap: Tap | None = None) -> MaskedTokens:
        """(B, N, C) on a grid to (B, N', C') on the stage's grid and their mask; ``tap`` is called after each block."""
        x, grid, mask = self.enter(x, grid, mask)
        for block in self.blocks:
            x = self._run(block, x, grid, mask)
            if tap is not None:
                tap(x, grid, mask)
        return x, grid, mask

    def enter(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> MaskedTokens:
        """(B, N, C) on a grid to the input of the first block."""
        x, grid, mask = self.embed(x, grid, mask)
        x = self.position(self.prefix(x), grid)
        if mask is not None:  # prefix tokens are always real
            mask = F.pad(mask, (x.shape[1] - mask.shape[1], 0), value=True)
        return self.entry(x, mask), grid, mask

    def up_to(self, count: int) -> Stage:
        """A stage of the first so many blocks, with the same modules."""
        return Stage(
            embed=self.embed,
            prefix=self.prefix,
            position=self.position,
            blocks=list(self.blocks)[:count],
            entry=self.entry,
        )

    def _run(self, block: nn.Module, x: Tensor, grid: Grid, mask: Tensor | None) -> Tensor:
        if mask is not None:
            block = with_masked_norms(block, mask)
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            # The reentrant variant loses gradients where a block's input needs none, as behind a frozen stem.
            return checkpoint(block, x, grid, mask, use_reentrant=False)
        return block(x, grid, mask)


class Entry(nn.Module):
    """A norm and dropout after embedding and positions; by default neither."""

    def __init__(self, norm: nn.Module | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = norm or nn.Identity()
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.drop(normalize(self.norm, x, mask))


def with_masked_norms(block: nn.Module, mask: Tensor) -> nn.Module:
    """The block for one call, with a mask for its norms over tokens; a block without such norms is returned as it is.

    A block calls its norms with the tokens alone. Here a shallow copy, which shares all modules and parameters, calls
    them with the mask too. The block itself stays unchanged, so threads can call one model with different masks.
    """
    over_tokens = {name: part for name, part in block.named_children() if isinstance(part, OVER_TOKENS)}
    if not over_tokens:
        return block
    view = copy.copy(block)
    for name, norm in over_tokens.items():
        view.__dict__[name] = partial(norm, mask=mask)  # found first: Module.__getattr__ is the last resort
    return view


class Backbone(nn.Module):
    """Images ``(B, C, H, W)`` or token ids ``(B, L)`` through all stages."""

    def __init__(self, stages: Sequence[Stage], input_part: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.input_part = input_part

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> MaskedTokens:
        """The last tokens (B, N, C), their grid and their mask.

        ``mask`` (B, L), or (B, H, W) of an image, is true where a token is real; by default all are.
        """
        x, grid, mask = self.enter(inputs, mask)
        for stage in self.stages:
            x, grid, mask = stage(x, grid, mask)
        return x, grid, mask

    def enter(self, inputs: Tensor, mask: Tensor | None = None) -> MaskedTokens:
        """The input as tokens, as the first stage takes them."""
        x, grid = self.input_part(inputs)
        return x, grid, None if mask is None else check_mask(mask, x)

    def intermediates(self, inputs: Tensor, by_block: bool = False, mask: Tensor | None = None) -> list[MaskedTokens]:
        """Tokens, grid and mask after each stage, or after each block; the last are those of ``forward``."""
        seen: list[MaskedTokens] = []

        def tap(tokens: Tensor, place: Grid, real: Tensor | None) -> None:
            seen.append((tokens, place, real))

        x, grid, mask = self.enter(inputs, mask)
        for stage in self.stages:
            x, grid, mask = stage(x, grid, mask, tap=tap if by_block else None)
            if not by_block:
                tap(x, grid, mask)
        return seen

    def up_to(self, last: int, by_block: bool = False) -> Backbone:
        """A backbone that ends with stage ``last``, or with block ``last`` of all, with the same modules."""
        kept: list[Stage] = []
        left = last + 1
        for stage in self.stages:
            if left > 0:
                kept.append(stage.up_to(left) if by_block else stage)  # type: ignore[operator, arg-type]
            left -= len(stage.blocks) if by_block else 1  # type: ignore[arg-type]
        return Backbone(kept, self.input_part)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass: less memory, more time."""
        for stage in self.stages:
            stage.grad_checkpointing = enable  # type: ignore[assignment]


def grid_map(x: Tensor, grid: Grid) -> Tensor:
    """The grid's tokens as a map (B, C, H, W), or (B, C, L) of a sequence, without prefix tokens."""
    on_grid = to_map(x[:, x.shape[1] - prod(grid) :], grid)
    return on_grid.squeeze(2) if len(grid) == 1 else on_grid
