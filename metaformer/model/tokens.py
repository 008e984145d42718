"""Between tokens ``(B, N, C)`` and maps ``(B, C, H, W)``.

Contiguous tokens seen as a map ARE PyTorch's ``channels_last`` memory, so both directions are views and cost nothing.
Prefix tokens (class tokens) come first in the sequence and stand at no place of the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from ..types import Grid


def to_map(x: Tensor, grid: Grid) -> Tensor:
    """Tokens (B, H·W, C) as a map (B, C, H, W); a line of L tokens becomes a map of one row."""
    height, width = grid if len(grid) == 2 else (1, *grid)
    return x.reshape(x.shape[0], height, width, x.shape[-1]).permute(0, 3, 1, 2)


def to_tokens(x: Tensor) -> Tensor:
    """A map (B, C, H, W) as contiguous tokens (B, H·W, C): a view of a ``channels_last`` map, a copy of any other.

    The copy pays: PyTorch's convolutions answer in the layout they are asked in, so an image that came in as planes
    would leave every layer behind it, and every gradient, transposed.
    """
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], x.shape[2] * x.shape[3], x.shape[1]).contiguous()


def beside_prefix(x: Tensor, grid: Grid, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of the grid's tokens. Prefix tokens, which have no neighbors, read the mean of its result."""
    prefix = x.shape[1] - prod(grid)
    if prefix == 0:
        return function(x)
    mixed = function(x[:, prefix:])
    return torch.cat([mixed.mean(1, keepdim=True).expand(-1, prefix, -1), mixed], dim=1)


def on_map(x: Tensor, grid: Grid, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of maps to tokens; prefix tokens read the mean of its result."""
    return beside_prefix(x, grid, lambda tokens: to_tokens(function(to_map(tokens, grid))))
