"""Between tokens ``(B, N, C)`` and maps ``(B, C, H, W)``, and what a mask ``(B, N)`` does to them.

Contiguous tokens seen as a map ARE PyTorch's ``channels_last`` memory, so both directions are views and cost nothing.
Prefix tokens (class tokens) come first in the sequence and stand at no place of the grid. A mask is true where a token
is real; padding is everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from ..errors import InputError
from ..types import Grid

MaskedTokens = tuple[Tensor, Grid, Tensor | None]
"""Tokens (B, N, C), the grid they stand in, and their mask (B, N); None where all are real."""


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


def both_ways(size: int, grid: Grid, across: int) -> tuple[int, int]:
    """A window's sides, steps or margins on the maps of ``to_map``: equal in both directions; ``across`` the single row
    that a line of tokens is, where a window is 1 token high and a margin 0."""
    return (across, size) if len(grid) == 1 else (size, size)


def zero_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """Tokens (B, N, C) with zeros where the mask (B, N) says padding: what stands outside a map, too."""
    return x if mask is None else x.masked_fill(~mask[..., None], 0.0)


def mean_token(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean (B, C) of the real tokens of (B, N, C); zeros where none is real."""
    if mask is None:
        return x.mean(1)
    return zero_padding(x, mask).sum(1) / mask.sum(1, keepdim=True).clamp(min=1).to(x.dtype)


def grid_mask(mask: Tensor | None, grid: Grid) -> Tensor | None:
    """The columns of a mask (B, P + N) that belong to the grid's tokens."""
    return None if mask is None else mask[:, mask.shape[1] - prod(grid) :]


def beside_prefix(x: Tensor, grid: Grid, function: Callable[[Tensor], Tensor], mask: Tensor | None = None) -> Tensor:
    """Apply a function of the grid's tokens. Prefix tokens, which have no neighbors, read the mean of its result."""
    prefix = x.shape[1] - prod(grid)
    if prefix == 0:
        return function(x)
    mixed = function(x[:, prefix:])
    mean = mean_token(mixed, grid_mask(mask, grid))
    return torch.cat([mean[:, None].expand(-1, prefix, -1), mixed], dim=1)


def on_map(x: Tensor, grid: Grid, function: Callable[[Tensor], Tensor], mask: Tensor | None = None) -> Tensor:
    """Apply a function of maps to tokens, padding set to zero; prefix tokens read the mean of its result."""
    real = grid_mask(mask, grid)
    return beside_prefix(x, grid, lambda tokens: to_tokens(function(to_map(zero_padding(tokens, real), grid))), mask)


def check_mask(mask: Tensor, x: Tensor) -> Tensor:
    """A mask for ``x`` (B, N, ...), true where a token is real; that of an image may have its shape (B, H, W).

    Raises:
        InputError: another shape, or numbers that are no mask.
    """
    if not isinstance(mask, Tensor) or mask.ndim < 2 or mask.flatten(1).shape != x.shape[:2]:
        came = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(f"mask: expected {tuple(x.shape[:2])}, one entry for each token, got {came}")
    if mask.is_floating_point():  # a mask of scores to add (0 and -inf) would be read the wrong way round
        raise InputError(f"mask: expected booleans, true where a token is real, got {mask.dtype}")
    return mask.flatten(1).bool()


def check_length(built_for: Grid, grid: Grid, part: str) -> None:
    """Refuse a sequence longer than a part of the model was built for, naming both lengths and the cure."""
    if grid > built_for:
        raise InputError(
            f"a sequence of {grid[0]} tokens is longer than {part}, built for {built_for[0]}: truncate it, or build "
            "the model with a larger tokens.length"
        )


def refuse_padding(mask: Tensor | None, part: str) -> None:
    """Refuse a mask with padding where a part cannot obey it. One that is all true is as good as none."""
    if mask is not None and not bool(mask.all()):
        raise InputError(
            f"mask: {part} mixes every token, padding too, and cannot leave any out: feed sequences of one length "
            "without a mask, or choose another mixer"
        )
