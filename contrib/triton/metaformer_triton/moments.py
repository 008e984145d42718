"""Kernels for mean and variance of each sample that do not cancel where the mean is large.

Whoever writes tokens leaves two numbers for each tile that it has in registers, the tile's mean and the sum of squared
differences from it; ``merge`` puts the tiles of a sample together by the rule of Chan, Golub and LeVeque (1979). Every
tile has a place of its own and they are read in order: no atomics, the same bits every time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from metaformer.model.lean.formulas import Statistics

BLOCK = 4096
"""Entries that one program reads; a power of two."""
MERGED = 1024
"""Tiles that ``merge`` reads at a time."""


@triton.jit
def tile_moments(values: tl.tensor, valid: tl.tensor):  # type: ignore[no-untyped-def]  # Triton infers what it returns
    """Mean of a tile's valid entries, and their summed squared differences from it: two scalars."""
    mean = tl.sum(tl.where(valid, values, 0.0)) / tl.sum(valid.to(tl.float32))
    away = tl.where(valid, values - mean, 0.0)
    return mean, tl.sum(away * away)


@triton.jit
def row_moments(values: tl.tensor, valid: tl.tensor):  # type: ignore[no-untyped-def]
    """The same for each row of a tile; rows without a valid entry have zeros."""
    count = tl.maximum(tl.sum(valid.to(tl.float32), axis=1), 1.0)
    mean = tl.sum(tl.where(valid, values, 0.0), axis=1) / count
    away = tl.where(valid, values - mean[:, None], 0.0)
    return mean, tl.sum(away * away, axis=1)


@triton.jit
def _moments(x: tl.tensor, means: tl.tensor, squares: tl.tensor, entries: tl.tensor, BLOCK: tl.constexpr) -> None:
    """One tile of one sample."""
    tile, sample = tl.program_id(0), tl.program_id(1)
    place = tile * BLOCK + tl.arange(0, BLOCK)
    valid = place < entries
    values = tl.load(x + sample.to(tl.int64) * entries + place, mask=valid, other=0.0).to(tl.float32)
    mean, square = tile_moments(values, valid)
    out = sample * tl.num_programs(0) + tile
    tl.store(means + out, mean)
    tl.store(squares + out, square)


@triton.jit
def _counts(tile: tl.tensor, rows: tl.tensor, columns: tl.tensor, tile_rows: tl.tensor, tile_columns: tl.tensor):  # type: ignore[no-untyped-def]
    """How many entries the tiles of these numbers have; those at the lower and right edge have fewer."""
    across = (columns + tile_columns - 1) // tile_columns
    top, left = (tile // across) * tile_rows, (tile % across) * tile_columns
    return (tl.minimum(tile_rows, rows - top) * tl.minimum(tile_columns, columns - left)).to(tl.float32)


@triton.jit
def _merge(
    means: tl.tensor,
    squares: tl.tensor,
    mean_out: tl.tensor,
    rstd_out: tl.tensor,
    eps: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    tile_rows: tl.tensor,
    tile_columns: tl.tensor,
    tiles: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """All tiles of one sample: their mean, then what they spread around it."""
    sample = tl.program_id(0)
    start = sample.to(tl.int64) * tiles
    entries = 1.0 * rows * columns  # numbers that are 1 come as constants, which have no methods
    first = tl.load(means + start)
    away = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, tiles, BLOCK):
        tile = begin + tl.arange(0, BLOCK)
        count = tl.where(tile < tiles, _counts(tile, rows, columns, tile_rows, tile_columns), 0.0)
        away += count * (tl.load(means + start + tile, mask=tile < tiles, other=0.0) - first)
    mean = first + tl.sum(away, axis=0) / entries
    square = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, tiles, BLOCK):
        tile = begin + tl.arange(0, BLOCK)
        count = tl.where(tile < tiles, _counts(tile, rows, columns, tile_rows, tile_columns), 0.0)
        difference = tl.load(means + start + tile, mask=tile < tiles, other=0.0) - mean
        square += tl.load(squares + start + tile, mask=tile < tiles, other=0.0) + count * difference * difference
    tl.store(mean_out + sample, mean)
    tl.store(rstd_out + sample, 1.0 / tl.sqrt_rn(tl.sum(square, axis=0) / entries + eps))


class Partials:
    """Room for two numbers from each tile of (rows × columns) entries, for every sample."""

    def __init__(self, x: Tensor, rows: int, columns: int, smallest_rows: int, smallest_columns: int) -> None:
        self.samples, self.rows, self.columns = x.shape[0], rows, columns
        self.most = triton.cdiv(rows, smallest_rows) * triton.cdiv(columns, smallest_columns)
        self.means, self.squares = torch.empty(2, self.samples * self.most, device=x.device, dtype=torch.float32)

    def merged(self, tile_rows: int, tile_columns: int, eps: float) -> Statistics:
        """The samples' statistics once tiles of this size have been written."""
        mean, rstd = torch.empty(2, self.samples, device=self.means.device, dtype=torch.float32)
        count = triton.cdiv(self.rows, tile_rows) * triton.cdiv(self.columns, tile_columns)
        sizes = (self.rows, self.columns, tile_rows, tile_columns, count)
        block = min(MERGED, triton.next_power_of_2(count))
        _merge[(self.samples,)](self.means, self.squares, mean, rstd, eps, *sizes, BLOCK=block)
        return Statistics(mean, rstd)


def statistics(x: Tensor, eps: float) -> Statistics:
    """Mean and 1 / sqrt(variance + eps) of each sample of contiguous tokens (B, N, C), in float32."""
    entries = x.shape[1] * x.shape[2]
    block = min(BLOCK, triton.next_power_of_2(entries))
    partials = Partials(x, 1, entries, 1, block)
    _moments[(triton.cdiv(entries, block), x.shape[0])](x, partials.means, partials.squares, entries, BLOCK=block)
    return partials.merged(1, block, eps)
