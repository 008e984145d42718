"""Kernels for a block's first half: skip x + keep scale weight rstd (pool(x) - x) over contiguous tokens (B, N, C).

A program has a tile of tokens and channels of one sample. It reads the window of each token again, out of the cache,
rather than copy it; borders are masked and do not count. Forwards is one pass over x, which also leaves the moments of
what it writes for the next norm. Backwards is two: sums first, since the statistics' share needs them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from metaformer.model.lean.formulas import PoolingGradients, PoolingWeights, Statistics, scaled, wide
from metaformer.types import Grid

from .moments import Partials, tile_moments
from .tuning import size_class, smallest, tiles

CONFIGS = tiles(
    (
        {"TOKENS": 16, "CHANNELS": 64, "warps": 2},
        {"TOKENS": 32, "CHANNELS": 64, "warps": 4},
        {"TOKENS": 64, "CHANNELS": 64, "warps": 4},
        {"TOKENS": 64, "CHANNELS": 64, "warps": 8},
        {"TOKENS": 16, "CHANNELS": 128, "warps": 4},
        {"TOKENS": 32, "CHANNELS": 128, "warps": 4},
        {"TOKENS": 32, "CHANNELS": 128, "warps": 8},
    ),
    {"TOKENS": 32, "CHANNELS": 128},
)


@triton.jit
def _own_tile(N: tl.tensor, C: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Which tile this program has: its sample, tokens and channels, which of them are there, and where they lie.

    A place in memory is the sample's start, which may need 64 bits, and the place within the sample.
    """
    sample = tl.program_id(2)
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    valid = (token < N)[:, None] & (channel < C)[None, :]
    return sample, token, channel, valid, sample.to(tl.int64) * N * C, token[:, None] * C + channel[None, :]


@triton.jit
def _window(place: tl.tensor, size: tl.tensor, KERNEL: tl.constexpr):  # type: ignore[no-untyped-def]
    """How many rows (or columns) of a window around this one lie on the map."""
    return tl.minimum(place + KERNEL // 2, size - 1) - tl.maximum(place - KERNEL // 2, 0) + 1


@triton.jit
def _sum_of_neighbors(  # type: ignore[no-untyped-def]
    x: tl.tensor,
    token: tl.tensor,
    channel: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    C: tl.constexpr,
    KERNEL: tl.constexpr,
    SHARES: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Sum over each token's window; with SHARES of what each neighbor sends, its value by the size of its window."""
    row, column = token // width, token % width
    half: tl.constexpr = KERNEL // 2
    total = tl.zeros((TOKENS, CHANNELS), tl.float32)
    for i in tl.static_range(KERNEL):
        r = row + (i - half)
        for j in tl.static_range(KERNEL):
            c = column + (j - half)
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            place = (r * width + c)[:, None] * C + channel[None, :]
            value = tl.load(x + place, mask=inside[:, None] & (channel < C)[None, :], other=0.0).to(tl.float32)
            if SHARES:
                rows = tl.minimum(r + half, height - 1) - tl.maximum(r - half, 0) + 1
                columns = tl.minimum(c + half, width - 1) - tl.maximum(c - half, 0) + 1
                value = value / tl.where(inside, rows * columns, 1).to(tl.float32)[:, None]
            total += value
    return total


@triton.jit
def _channel_factor(weight: tl.tensor, scale: tl.tensor, channel: tl.tensor, C: tl.constexpr, SCALED: tl.constexpr):  # type: ignore[no-untyped-def]
    """scale weight, of these channels."""
    factor = tl.load(weight + channel, mask=channel < C, other=0.0).to(tl.float32)
    if SCALED:
        factor *= tl.load(scale + channel, mask=channel < C, other=0.0).to(tl.float32)
    return factor


@triton.autotune(CONFIGS, key=["size", "C", "KERNEL", "SCALED", "SKIPPED"])
@triton.jit
def _forward(
    x: tl.tensor,
    y: tl.tensor,
    weight: tl.tensor,
    scale: tl.tensor,
    skip: tl.tensor,
    factor: tl.tensor,
    means: tl.tensor,
    squares: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    N: tl.tensor,
    size: tl.tensor,  # read by tuning alone
    C: tl.constexpr,
    KERNEL: tl.constexpr,
    SCALED: tl.constexpr,
    SKIPPED: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """One tile of y, and its moments."""
    sample, token, channel, valid, start, place = _own_tile(N, C, TOKENS, CHANNELS)
    own = tl.load(x + start + place, mask=valid, other=0.0).to(tl.float32)
    total = _sum_of_neighbors(x + start, token, channel, height, width, C, KERNEL, False, TOKENS, CHANNELS)
    count = _window(token // width, height, KERNEL) * _window(token % width, width, KERNEL)
    # Tokens past the end have windows of no meaning: they are never written, but must not divide by zero.
    average = total / tl.where(token < N, count, 1).to(tl.float32)[:, None]
    k = _channel_factor(weight, scale, channel, C, SCALED) * tl.load(factor + sample)
    result = k[None, :] * (average - own)
    if SKIPPED:
        result += own * tl.load(skip + channel, mask=channel < C, other=0.0).to(tl.float32)[None, :]
    else:
        result += own
    written = result.to(y.dtype.element_ty)
    tl.store(y + start + place, written, mask=valid)
    mean, square = tile_moments(written.to(tl.float32), valid)
    out = (sample * tl.num_programs(0) + tl.program_id(0)) * tl.num_programs(1) + tl.program_id(1)
    tl.store(means + out, mean)
    tl.store(squares + out, square)


@triton.autotune(CONFIGS, key=["size", "C", "KERNEL", "SKIPPED"])
@triton.jit
def _sums(
    g: tl.tensor,
    x: tl.tensor,
    means: tl.tensor,
    by_channel: tl.tensor,
    by_skip: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    N: tl.tensor,
    size: tl.tensor,  # read by tuning alone
    C: tl.constexpr,
    KERNEL: tl.constexpr,
    SKIPPED: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """Of one tile, for each channel: the sum of (x - mean) (poolᵀ(g) - g), and of g x."""
    sample, token, channel, valid, start, place = _own_tile(N, C, TOKENS, CHANNELS)
    gradient = tl.load(g + start + place, mask=valid, other=0.0).to(tl.float32)
    own = tl.load(x + start + place, mask=valid, other=0.0).to(tl.float32)
    spread = _sum_of_neighbors(g + start, token, channel, height, width, C, KERNEL, True, TOKENS, CHANNELS) - gradient
    centered = tl.where(valid, own - tl.load(means + sample), 0.0)
    out = (tl.program_id(0) * tl.num_programs(2) + sample) * C + channel
    tl.store(by_channel + out, tl.sum(centered * spread, axis=0), mask=channel < C)
    if SKIPPED:
        tl.store(by_skip + out, tl.sum(gradient * own, axis=0), mask=channel < C)


@triton.autotune(CONFIGS, key=["size", "C", "KERNEL", "SCALED", "SKIPPED"])
@triton.jit
def _backward(
    g: tl.tensor,
    x: tl.tensor,
    out: tl.tensor,
    weight: tl.tensor,
    scale: tl.tensor,
    skip: tl.tensor,
    factor: tl.tensor,
    means: tl.tensor,
    through_rstd: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    N: tl.tensor,
    size: tl.tensor,  # read by tuning alone
    C: tl.constexpr,
    KERNEL: tl.constexpr,
    SCALED: tl.constexpr,
    SKIPPED: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """One tile of the gradient by x."""
    sample, token, channel, valid, start, place = _own_tile(N, C, TOKENS, CHANNELS)
    gradient = tl.load(g + start + place, mask=valid, other=0.0).to(tl.float32)
    own = tl.load(x + start + place, mask=valid, other=0.0).to(tl.float32)
    spread = _sum_of_neighbors(g + start, token, channel, height, width, C, KERNEL, True, TOKENS, CHANNELS) - gradient
    k = _channel_factor(weight, scale, channel, C, SCALED) * tl.load(factor + sample)
    result = k[None, :] * spread - tl.load(through_rstd + sample) * (own - tl.load(means + sample))
    if SKIPPED:
        result += gradient * tl.load(skip + channel, mask=channel < C, other=0.0).to(tl.float32)[None, :]
    else:
        result += gradient
    tl.store(out + start + place, result.to(out.dtype.element_ty), mask=valid)


def _grid(x: Tensor, met: dict[str, int]):  # type: ignore[no-untyped-def]  # a closure in Triton's terms
    """Programs for the tile that tuning takes; that tile is left in ``met``."""

    def programs(meta: dict[str, int]) -> tuple[int, int, int]:
        met.update(TOKENS=meta["TOKENS"], CHANNELS=meta["CHANNELS"])
        return triton.cdiv(x.shape[1], meta["TOKENS"]), triton.cdiv(x.shape[2], meta["CHANNELS"]), x.shape[0]

    return programs


def pooling_residual(
    x: Tensor,
    weights: PoolingWeights,
    stats: Statistics,
    keep: Tensor | None,
    grid: Grid,
    kernel: int,
    dtype: torch.dtype,
    next_eps: float,
) -> tuple[Tensor, Statistics]:
    """The first half of a block, in ``dtype``, and the statistics of what it wrote."""
    y = torch.empty(x.shape, device=x.device, dtype=dtype)
    factor = stats.rstd if keep is None else stats.rstd * keep.float()
    tokens, width = x.shape[1:]
    room = Partials(x, tokens, width, smallest(_forward, "TOKENS"), smallest(_forward, "CHANNELS"))
    met: dict[str, int] = {}
    _forward[_grid(x, met)](
        x,
        y,
        weights.weight,
        weights.weight if weights.scale is None else weights.scale,
        weights.weight if weights.skip is None else weights.skip,
        factor,
        room.means,
        room.squares,
        *grid,
        tokens,
        size_class(x.numel()),
        C=width,
        KERNEL=kernel,
        SCALED=weights.scale is not None,
        SKIPPED=weights.skip is not None,
    )
    return y, room.merged(met["TOKENS"], met["CHANNELS"], next_eps)


def pooling_residual_gradients(
    g: Tensor, x: Tensor, weights: PoolingWeights, stats: Statistics, keep: Tensor | None, grid: Grid, kernel: int
) -> PoolingGradients:
    """The gradients by x, in its type, and by the weights, in float32."""
    samples, tokens, width = x.shape
    skipped = weights.skip is not None
    most = triton.cdiv(tokens, smallest(_sums, "TOKENS"))
    room = torch.empty(2 if skipped else 1, most * samples * width, device=x.device, dtype=torch.float32)
    met: dict[str, int] = {}
    sizes = (*grid, tokens, size_class(x.numel()))
    _sums[_grid(x, met)](g, x, stats.mean, room[0], room[-1], *sizes, C=width, KERNEL=kernel, SKIPPED=skipped)
    count = triton.cdiv(tokens, met["TOKENS"])
    sums = room[:, : count * samples * width].view(-1, count, samples, width).sum(1)

    factor = stats.rstd if keep is None else stats.rstd * keep.float()
    by_channel = sums[0]
    k = scaled(wide(weights.weight), weights.scale)
    by_k = (by_channel * factor[:, None]).sum(0)
    through_rstd = (by_channel * k).sum(1) * factor * stats.rstd.square() / (tokens * width)
    by_x = torch.empty_like(x)
    _backward[_grid(x, met)](
        g,
        x,
        by_x,
        weights.weight,
        weights.weight if weights.scale is None else weights.scale,
        weights.weight if weights.skip is None else weights.skip,
        factor,
        stats.mean,
        through_rstd,
        *sizes,
        C=width,
        KERNEL=kernel,
        SCALED=weights.scale is not None,
        SKIPPED=skipped,
    )
    return PoolingGradients(
        x=by_x,
        weight=scaled(by_k, weights.scale),
        scale=None if weights.scale is None else by_k * wide(weights.weight),
        skip=sums[1].sum(0) if skipped else None,
    )
