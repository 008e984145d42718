"""Stages in a row: pixels to tokens, features, or a pyramid of maps. Never sees a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from ..types import Grid
from .tokens import to_map, to_tokens

Tap = Callable[[Tensor, Grid], None]


class Stage(nn.Module):
    """An embedding, prefix tokens and positions if any, then blocks of one width."""

    def __init__(
        self, *, embed: nn.Module, prefix: nn.Module, position: nn.Module, blocks: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.embed, self.prefix, self.position = embed, prefix, position
        self.blocks = nn.ModuleList(blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, tap: Tap | None = None) -> tuple[Tensor, Grid]:
        """(B, N, C) on a grid to (B, N', C') on the stage's own; ``tap`` is shown the tokens after each block."""
        x, grid = self.embed(x, grid)
        x = self.position(self.prefix(x), grid)
        for block in self.blocks:
            x = self._run(block, x, grid, mask)
            if tap is not None:
                tap(x, grid)
        return x, grid

    def up_to(self, count: int) -> Stage:
        """A stage of the first so many blocks, with the same modules."""
        return Stage(embed=self.embed, prefix=self.prefix, position=self.position, blocks=list(self.blocks)[:count])

    def _run(self, block: nn.Module, x: Tensor, grid: Grid, mask: Tensor | None) -> Tensor:
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, x, grid, mask, use_reentrant=False)
        return block(x, grid, mask)


class Backbone(nn.Module):
    """Images ``(B, C, H, W)`` through all stages."""

    def __init__(self, stages: Sequence[Stage], in_chans: int = 3) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.in_chans = in_chans

    def forward(self, images: Tensor) -> tuple[Tensor, Grid]:
        """The last tokens (B, N, C) and their grid."""
        x, grid = self.pixels(images)
        for stage in self.stages:
            x, grid = stage(x, grid)
        return x, grid

    def intermediates(self, images: Tensor, by_block: bool = False) -> list[tuple[Tensor, Grid]]:
        """The tokens and the grid that each stage leaves, or each block; the last are what ``forward`` gives."""
        seen: list[tuple[Tensor, Grid]] = []

        def tap(tokens: Tensor, place: Grid) -> None:
            seen.append((tokens, place))

        x, grid = self.pixels(images)
        for stage in self.stages:
            x, grid = stage(x, grid, tap=tap if by_block else None)
            if not by_block:
                tap(x, grid)
        return seen

    def up_to(self, last: int, by_block: bool = False) -> Backbone:
        """A backbone that ends with stage ``last``, or with block ``last`` of all, with the same modules."""
        kept: list[Stage] = []
        left = last + 1
        for stage in self.stages:
            if left > 0:
                kept.append(stage.up_to(left) if by_block else stage)  # type: ignore[operator, arg-type]
            left -= len(stage.blocks) if by_block else 1  # type: ignore[arg-type]
        return Backbone(kept, self.in_chans)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass: less memory, more time."""
        for stage in self.stages:
            stage.grad_checkpointing = enable  # type: ignore[assignment]

    def pixels(self, images: Tensor) -> tuple[Tensor, Grid]:
        """An image as tokens: one a pixel, its channels as the width."""
        check_images(images, self.in_chans)
        return to_tokens(images), (images.shape[2], images.shape[3])


def check_images(images: Tensor, in_chans: int) -> None:
    """Refuse what is no batch of images with ``in_chans`` channels, as numbers that can be computed with."""
    if not isinstance(images, Tensor):
        raise InputError(
            f"images: expected one tensor (batch, {in_chans}, height, width), got a {type(images).__name__}; "
            "torch.stack joins images of one size"
        )
    if images.ndim != 4 or images.shape[1] != in_chans:
        raise InputError(
            f"images: expected (batch, {in_chans}, height, width), got {tuple(images.shape)}; "
            "create_model(..., in_chans=...) builds a model for images with other channels."
        )
    if not images.is_floating_point():
        raise InputError(
            f"images: expected floating-point numbers, got {images.dtype}; model.preprocessing says how images are "
            "prepared: scaled to [0, 1], then mean and std"
        )


def grid_map(x: Tensor, grid: Grid) -> Tensor:
    """The tokens that stand on the grid as a map (B, C, H, W), prefix tokens left out."""
    return to_map(x[:, x.shape[1] - prod(grid) :], grid)
