"""Token mixers that are one matrix over the positions: learned (spatial FC) or frozen at random.

They are tied to the grid they were built for: another picture size needs another ``img_size`` when building.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...types import Grid


def check_grid(built_for: Grid, grid: Grid, mixer: nn.Module) -> None:
    """Refuse tokens on another grid than the mixer's, naming both and the cure."""
    if grid != built_for:
        raise InputError(
            f"{type(mixer).__name__} mixes a fixed grid: it was built for {_size(built_for)} tokens and got "
            f"{_size(grid)}. Feed pictures of the size the model was built for, or build it for these with "
            "create_model(..., img_size=...)."
        )


def _size(grid: Grid) -> str:
    return "×".join(str(side) for side in grid)


class SpatialFC(nn.Module):
    """One linear layer over the positions, shared by all channels (MetaFormer, section 4.4, "SpatialFC")."""

    def __init__(self, dim: int, *, grid: Grid, prefix_tokens: int = 0, bias: bool = False) -> None:
        super().__init__()
        self.grid = grid
        count = prod(grid) + prefix_tokens
        self.fc = nn.Linear(count, count, bias=bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape, N as built."""
        check_grid(self.grid, grid, self)
        return self.fc(x.transpose(1, 2)).transpose(1, 2).contiguous()


class RandomMixing(nn.Module):
    """A frozen random matrix over the positions, each row a softmax (MetaFormer Baselines, section 3.1).

    It is a parameter without gradient: saved with the weights, counted among the parameters, never trained.
    """

    def __init__(self, dim: int, *, grid: Grid, prefix_tokens: int = 0) -> None:
        super().__init__()
        self.grid = grid
        count = prod(grid) + prefix_tokens
        self.matrix = nn.Parameter(torch.rand(count, count).softmax(-1), requires_grad=False)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape, N as built."""
        check_grid(self.grid, grid, self)
        return self.matrix @ x
