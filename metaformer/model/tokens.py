"""Conversion between tokens ``(B, N, C)`` and maps ``(B, C, H, W)``, and masks ``(B, N)`` of padded sequences.

Contiguous tokens have the memory layout of a ``channels_last`` map, so both conversions are views and free of cost.
Prefix tokens (class tokens) come first in the sequence and have no place on the grid. A mask is true where a token is
real and false where it is padding.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from ..errors import InputError
from ..types import Grid

MaskedTokens = tuple[Tensor, Grid, Tensor | None]
"""Tokens (B, N, C), their grid, and their mask (B, N), None where all are real."""


def to_map(x: Tensor, grid: Grid) -> Tensor:
    """Tokens (B, H·W, C) as a map (B, C, H, W); a line of L tokens becomes a map of one row."""
    height, width = grid if len(grid) == 2 else (1, *grid)
    return x.reshape(x.shape[0], height, width, x.shape[-1]).permute(0, 3, 1, 2)


def to_tokens(x: Tensor) -> Tensor:
    """A map (B, C, H, W) as contiguous tokens (B, H·W, C): a view of a ``channels_last`` map, a copy of any other.

    The copy is worth its time: PyTorch's convolutions keep the layout of their input, so an image in planes would make
    every later layer, and every gradient, work on transposed memory.
    """
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], x.shape[2] * x.shape[3], x.shape[1]).contiguous()


def both_ways(size: int, grid: Grid, across: int) -> tuple[int, int]:
    """Height and width of a window (or of its stride or padding) on the maps of ``to_map``.

    Both are ``size`` on a grid of two dimensions. A sequence is a map of one row, where the height is ``across``.
    """
    return (across, size) if len(grid) == 1 else (size, size)


def zero_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """Tokens (B, N, C) with zeros in place of padding, as outside the border of a map."""
    # Filled, not multiplied: 0 · inf would be nan.
    return x if mask is None else x.masked_fill(~mask[..., None], 0.0)


def mean_token(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean (B, C) of the real tokens of (B, N, C); zeros where none is real."""
    if mask is None:
        return x.mean(1)
    return zero_padding(x, mask).sum(1) / mask.sum(1, keepdim=True).clamp(min=1).to(x.dtype)


def grid_mask(mask: Tensor | None, grid: Grid) -> Tensor | None:
    """The mask (B, N) of the grid's tokens from one (B, P + N) that has the prefix tokens too."""
    return None if mask is None else mask[:, mask.shape[1] - prod(grid) :]


def beside_prefix(x: Tensor, grid: Grid, function: Callable[[Tensor], Tensor], mask: Tensor | None = None) -> Tensor:
    """Apply a function to the grid's tokens; prefix tokens, which have no neighbors, become the mean of its result."""
    prefix = x.shape[1] - prod(grid)
    if prefix == 0:
        return function(x)
    mixed = function(x[:, prefix:])
    mean = mean_token(mixed, grid_mask(mask, grid))
    return torch.cat([mean[:, None].expand(-1, prefix, -1), mixed], dim=1)


def on_map(x: Tensor, grid: Grid, function: Callable[[Tensor], Tensor], mask: Tensor | None = None) -> Tensor:
    """Apply a function of maps to tokens, with zeros for padding; prefix tokens become the mean of its result."""
    real = grid_mask(mask, grid)
    return beside_prefix(x, grid, lambda tokens: to_tokens(function(to_map(zero_padding(tokens, real), grid))), mask)


def check_mask(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (B, N) of booleans for ``x`` (B, N, ...), from booleans or integers; that of an image may be (B, H, W).

    Raises:
        InputError: another shape, or floating-point numbers.
    """
    if not isinstance(mask, Tensor) or mask.ndim < 2 or mask.flatten(1).shape != x.shape[:2]:
        got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(f"mask: expected {tuple(x.shape[:2])}, one entry for each token, got {got}")
    if mask.is_floating_point():  # an additive mask (0 and -inf) would be read the wrong way round
        raise InputError(f"mask: expected booleans, true where a token is real, got {mask.dtype}")
    return mask.flatten(1).bool()


def check_length(built_for: Grid, grid: Grid, part: str) -> None:
    """Refuse a sequence longer than a part of the model was built for."""
    if grid[0] > built_for[0]:  # tuples would compare by equality first, which exporters keep as a condition
        raise InputError(
            f"a sequence of {grid[0]} tokens is longer than {part}, built for {built_for[0]}: truncate it, or build "
            "the model with a larger tokens.length"
        )


def refuse_padding(mask: Tensor | None, part: str) -> None:
    """Refuse a mask with padding, for a part that cannot leave tokens out. A mask that is all true is accepted."""
    if mask is not None and not bool(mask.all()):
        raise InputError(
            f"mask: {part} mixes every token, padding too, and cannot leave any out: feed sequences of one length "
            "without a mask, or choose another mixer"
        )
