"""Kernels for the gradients of a block's second half.

The pre-activation is computed again: what forwards keeps is x and two numbers a sample, nothing else.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from metaformer.model.lean.formulas import (
    MLPGradients,
    MLPSums,
    MLPWeights,
    Statistics,
    fold,
    scaled,
    weights_gradients,
    wide,
)

from .products import (
    GROUPED,
    PRODUCTS,
    SMALL,
    activated,
    centered,
    first_arguments,
    normalized_product,
    of_sample,
    own_tile,
    precision,
    product_of_tile,
    slope,
    tensor_or,
    tiles_of,
)
from .tuning import size_class, smallest, tiles

PAIRED = tiles(  # two accumulators at once
    (
        {"ROWS": 128, "COLUMNS": 64, "INNER": 64, "warps": 8, "stages": 3},
        {"ROWS": 64, "COLUMNS": 128, "INNER": 64, "warps": 8, "stages": 3},
        {"ROWS": 128, "COLUMNS": 128, "INNER": 32, "warps": 8, "stages": 3},
        {"ROWS": 64, "COLUMNS": 64, "INNER": 64, "warps": 4, "stages": 3},
        {"ROWS": 64, "COLUMNS": 64, "INNER": 32, "warps": 4, "stages": 4},
    ),
    SMALL,
)
PROGRAMS = 512
"""How many programs a sum over all tokens is spread over, roughly: a few for each processor of a large GPU."""


@triton.autotune(PAIRED, key=["size", "C", "J", "STAR", "CENTER", "KEPT"])
@triton.jit
def _hidden_gradients(
    x: tl.tensor,
    g: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    sums: tl.tensor,
    shift: tl.tensor,
    star_scale: tl.tensor,
    star_bias: tl.tensor,
    keep: tl.tensor,
    means: tl.tensor,
    rstds: tl.tensor,
    hidden: tl.tensor,
    by_a: tl.tensor,
    row_sums: tl.tensor,
    column_sums: tl.tensor,
    star_sums: tl.tensor,
    rows: tl.tensor,
    N: tl.tensor,
    size: tl.tensor,  # read by tuning alone
    C: tl.constexpr,
    J: tl.constexpr,
    STAR: tl.constexpr,
    CENTER: tl.constexpr,
    KEPT: tl.constexpr,
    PRECISION: tl.constexpr,
    GROUPED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
) -> None:
    """One tile of the hidden tokens, computed again, and of the gradient by their pre-activation; with its sums.

    ``second`` is (C, J) with LayerScale inside. The hidden tokens leave with keep, as W2's gradient wants them.
    """
    down, across = own_tile(rows, J, ROWS, COLUMNS, GROUPED)
    row, column = down * ROWS + tl.arange(0, ROWS), across * COLUMNS + tl.arange(0, COLUMNS)
    mean = of_sample(means, row, rows, N)
    rstd = of_sample(rstds, row, rows, N)
    total = product_of_tile(x, first, mean, row, column, rows, C, J, C, 1, CENTER, PRECISION, ROWS, COLUMNS, INNER)
    product = normalized_product(total, sums, mean, rstd, column, J, CENTER)
    a = product + tl.load(shift + column, mask=column < J, other=0.0)[None, :]
    back = product_of_tile(g, second, mean, row, column, rows, C, J, 1, J, False, PRECISION, ROWS, COLUMNS, INNER)
    h = activated(a, star_scale, star_bias, STAR)
    if KEPT:
        kept = of_sample(keep, row, rows, N).to(tl.float32)
        back *= kept[:, None]
        h *= kept[:, None]
    # Rows and columns outside have back = 0, so that they add nothing to any sum.
    gradient = back * slope(a, star_scale, STAR)
    place = row.to(tl.int64)[:, None] * J + column[None, :]
    valid = (row < rows)[:, None] & (column < J)[None, :]
    tl.store(hidden + place, h.to(hidden.dtype.element_ty), mask=valid)
    tl.store(by_a + place, gradient.to(by_a.dtype.element_ty), mask=valid)
    u = tl.load(sums + column, mask=column < J, other=0.0)
    place_of_row = (across.to(tl.int64) * rows + row) * 2
    tl.store(row_sums + place_of_row, tl.sum(gradient * u[None, :], axis=1), mask=row < rows)
    tl.store(row_sums + place_of_row + 1, tl.sum(gradient * product, axis=1), mask=row < rows)
    tl.store(column_sums + down * J + column, tl.sum(gradient, axis=0), mask=column < J)
    if STAR:
        positive = tl.maximum(a, 0.0)
        out = (down * tl.cdiv(J, COLUMNS) + across) * 2
        tl.store(star_sums + out, tl.sum(back * positive * positive))
        tl.store(star_sums + out + 1, tl.sum(back))


@triton.autotune(PRODUCTS, key=["size", "C", "J", "SKIPPED"])
@triton.jit
def _input_gradient(
    by_a: tl.tensor,
    first: tl.tensor,
    x: tl.tensor,
    g: tl.tensor,
    skip: tl.tensor,
    means: tl.tensor,
    rstds: tl.tensor,
    by_mean: tl.tensor,
    by_rstd: tl.tensor,
    out: tl.tensor,
    rows: tl.tensor,
    N: tl.tensor,
    size: tl.tensor,  # read by tuning alone
    C: tl.constexpr,
    J: tl.constexpr,
    SKIPPED: tl.constexpr,
    PRECISION: tl.constexpr,
    GROUPED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
) -> None:
    """One tile of the gradient by x: back through the first layer, the norm and the shortcut at once."""
    down, across = own_tile(rows, C, ROWS, COLUMNS, GROUPED)
    row, column = down * ROWS + tl.arange(0, ROWS), across * COLUMNS + tl.arange(0, COLUMNS)
    mean = of_sample(means, row, rows, N)
    rstd = of_sample(rstds, row, rows, N)
    total = product_of_tile(by_a, first, mean, row, column, rows, J, C, 1, C, False, PRECISION, ROWS, COLUMNS, INNER)
    valid = (row < rows)[:, None] & (column < C)[None, :]
    place = row.to(tl.int64)[:, None] * C + column[None, :]
    unit = (tl.load(x + place, mask=valid, other=0.0).to(tl.float32) - mean[:, None]) * rstd[:, None]
    from_mean = of_sample(by_mean, row, rows, N)
    from_rstd = of_sample(by_rstd, row, rows, N)
    through = rstd[:, None] * (total - from_mean[:, None] - unit * from_rstd[:, None])
    gradient = tl.load(g + place, mask=valid, other=0.0).to(tl.float32)
    if SKIPPED:
        gradient *= tl.load(skip + column, mask=column < C, other=0.0).to(tl.float32)[None, :]
    tl.store(out + place, (gradient + through).to(out.dtype.element_ty), mask=valid)


@triton.autotune(PRODUCTS, key=["size", "C", "J", "NORMALIZE"])
@triton.jit
def _sum_over_tokens(
    left: tl.tensor,
    right: tl.tensor,
    means: tl.tensor,
    rstds: tl.tensor,
    out: tl.tensor,
    rows: tl.tensor,
    chunk: tl.tensor,
    N: tl.tensor,
    size: tl.tensor,  # read by tuning alone
    C: tl.constexpr,
    J: tl.constexpr,
    NORMALIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
) -> None:
    """One tile of leftᵀ right over a chunk of tokens: (J, C) from (rows, J) and (rows, C), right normalized or not."""
    j = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    start = tl.program_id(2) * chunk
    end = tl.minimum(start + chunk, rows)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for begin in range(start, end, INNER):
        row = begin + tl.arange(0, INNER)
        here = row.to(tl.int64)
        a = tl.load(left + here[None, :] * J + j[:, None], mask=(j < J)[:, None] & (row < end)[None, :], other=0.0)
        b = tl.load(right + here[:, None] * C + c[None, :], mask=(row < end)[:, None] & (c < C)[None, :], other=0.0)
        if NORMALIZE:
            mean = tl.load(means + row // N, mask=row < end, other=0.0)
            rstd = tl.load(rstds + row // N, mask=row < end, other=0.0)
            b = (b.to(tl.float32) - mean[:, None]) * rstd[:, None]
        total = tl.dot(a, b.to(left.dtype.element_ty), total, input_precision=PRECISION)
    place = (tl.program_id(2).to(tl.int64) * J + j[:, None]) * C + c[None, :]
    tl.store(out + place, total, mask=(j < J)[:, None] & (c < C)[None, :])


def normalized_mlp_gradients(
    g: Tensor, x: Tensor, weights: MLPWeights, stats: Statistics, keep: Tensor | None, products: torch.dtype
) -> MLPGradients:
    """The gradients by x, in its type, and by the weights, in float32."""
    samples, tokens, width = x.shape
    rows, inner = samples * tokens, len(weights.fc1_weight)
    folded = fold(weights, products)
    star = weights.star_scale is not None
    hidden, by_a = torch.empty(2, rows, inner, device=x.device, dtype=products)
    least = smallest(_hidden_gradients, "ROWS"), smallest(_hidden_gradients, "COLUMNS")
    most = triton.cdiv(rows, least[0]), triton.cdiv(inner, least[1])

    def room(*sizes: int) -> Tensor:
        return torch.empty(*sizes, device=x.device, dtype=torch.float32)

    row_sums, column_sums = room(most[1], rows, 2), room(most[0], inner)
    star_sums = room(most[0] * most[1] if star else 1, 2)
    met: dict[str, int] = {}
    weight, sums, shift, star_scale, star_bias, mean, rstd = first_arguments(weights, folded, stats)
    shape = {"C": width, "J": inner, "PRECISION": precision()}
    _hidden_gradients[tiles_of(rows, inner, met)](
        x,
        g,
        weight,
        scaled(wide(weights.fc2_weight).T, weights.scale).T.to(products).contiguous(),
        sums,
        shift,
        star_scale,
        star_bias,
        tensor_or(keep, shift),
        mean,
        rstd,
        hidden,
        by_a,
        row_sums,
        column_sums,
        star_sums,
        rows,
        tokens,
        size_class(rows),
        **shape,
        STAR=star,
        CENTER=centered(x, products),
        KEPT=keep is not None,
        GROUPED=GROUPED,
    )
    down, across = triton.cdiv(rows, met["ROWS"]), triton.cdiv(inner, met["COLUMNS"])
    by_statistics = row_sums[:across].sum(0).view(samples, tokens, 2).sum(1) / (tokens * width)
    by_star = star_sums[: down * across].sum(0)
    by_x = torch.empty_like(x)
    _input_gradient[tiles_of(rows, width, met)](
        by_a,
        weight,
        x,
        g,
        tensor_or(weights.skip, shift),
        mean,
        rstd,
        by_statistics[:, 0].contiguous(),
        by_statistics[:, 1].contiguous(),
        by_x,
        rows,
        tokens,
        size_class(rows),
        **shape,
        SKIPPED=weights.skip is not None,
        GROUPED=GROUPED,
    )
    by_sample = g.sum(1, dtype=torch.float32)
    sums_of_tokens = MLPSums(
        second=_summed_over_tokens(hidden, g, stats, tokens, normalize=False).T,
        result=(by_sample if keep is None else by_sample * keep.float()[:, None]).sum(0),
        first=_summed_over_tokens(by_a, x, stats, tokens, normalize=True),
        hidden=column_sums[:down].sum(0),
        skip=None if weights.skip is None else (g * x).sum((0, 1), dtype=torch.float32),
        star_scale=by_star[:1] if star else None,
        star_bias=by_star[1:] if star else None,
    )
    return MLPGradients(by_x, weights_gradients(sums_of_tokens, weights))


def _summed_over_tokens(left: Tensor, right: Tensor, stats: Statistics, tokens: int, normalize: bool) -> Tensor:
    """leftᵀ right, (J, C) in float32: chunks of tokens side by side, added in order."""
    rows, inner, width = *left.shape, right.shape[-1]
    split = max(1, min(PROGRAMS // (triton.cdiv(inner, 128) * triton.cdiv(width, 128)), triton.cdiv(rows, 512)))
    chunk = triton.cdiv(rows, split)
    out = torch.empty(triton.cdiv(rows, chunk), inner, width, device=left.device, dtype=torch.float32)

    def programs(meta: dict[str, int]) -> tuple[int, int, int]:
        return triton.cdiv(inner, meta["ROWS"]), triton.cdiv(width, meta["COLUMNS"]), len(out)

    _sum_over_tokens[programs](
        left,
        right,
        stats.mean,
        stats.rstd,
        out,
        rows,
        chunk,
        tokens,
        size_class(rows),
        C=width,
        J=inner,
        NORMALIZE=normalize,
        PRECISION=precision(),
    )
    return out.sum(0)
