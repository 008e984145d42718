"""Kernels for a block's second half: skip x + keep scale (act(norm(x) W1ᵀ + b1) W2ᵀ + b2) over tokens (B, N, C).

The residual is added where the second product leaves its accumulator, and each row's moments are left for the next norm
(``moments``). ``FUSED`` goes further for narrow stages: both products in one program, the hidden tokens never written.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from metaformer.model.lean.formulas import MLPWeights, Statistics, fold

from .moments import Partials, row_moments
from .products import (
    GROUPED,
    PRODUCTS,
    activated,
    centered,
    first_arguments,
    normalized_product,
    of_sample,
    own_tile,
    precision,
    product_of_tile,
    tensor_or,
    tiles_of,
)
from .tuning import size_class, smallest, tiles

FUSED = tiles(
    (
        {"ROWS": 128, "HIDDEN": 64, "warps": 8, "stages": 2},
        {"ROWS": 128, "HIDDEN": 128, "warps": 8, "stages": 2},
        {"ROWS": 64, "HIDDEN": 64, "warps": 4, "stages": 2},
        {"ROWS": 64, "HIDDEN": 128, "warps": 4, "stages": 2},
        {"ROWS": 64, "HIDDEN": 32, "warps": 4, "stages": 3},
    ),
    {"ROWS": 32, "HIDDEN": 32},
)


@triton.jit
def _finish(  # type: ignore[no-untyped-def]
    total: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    bias: tl.tensor,
    scale: tl.tensor,
    skip: tl.tensor,
    keep: tl.tensor,
    means: tl.tensor,
    squares: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    rows: tl.tensor,
    N: tl.tensor,
    tile: tl.tensor,
    across: tl.tensor,
    C: tl.constexpr,
    BIASED: tl.constexpr,
    SCALED: tl.constexpr,
    SKIPPED: tl.constexpr,
    KEPT: tl.constexpr,
):
    """From the second product to y, and each row's moments."""
    if BIASED:
        total += tl.load(bias + column, mask=column < C, other=0.0).to(tl.float32)[None, :]
    if SCALED:
        total *= tl.load(scale + column, mask=column < C, other=0.0).to(tl.float32)[None, :]
    if KEPT:
        total *= of_sample(keep, row, rows, N).to(tl.float32)[:, None]
    valid = (row < rows)[:, None] & (column < C)[None, :]
    place = row.to(tl.int64)[:, None] * C + column[None, :]
    own = tl.load(x + place, mask=valid, other=0.0).to(tl.float32)
    if SKIPPED:
        own *= tl.load(skip + column, mask=column < C, other=0.0).to(tl.float32)[None, :]
    written = (own + total).to(y.dtype.element_ty)
    tl.store(y + place, written, mask=valid)
    mean, square = row_moments(written.to(tl.float32), valid)
    tl.store(means + row.to(tl.int64) * across + tile, mean, mask=row < rows)
    tl.store(squares + row.to(tl.int64) * across + tile, square, mask=row < rows)


@triton.autotune(PRODUCTS, key=["size", "C", "J", "STAR", "CENTER"])
@triton.jit
def _hidden(
    x: tl.tensor,
    weight: tl.tensor,
    sums: tl.tensor,
    shift: tl.tensor,
    star_scale: tl.tensor,
    star_bias: tl.tensor,
    means: tl.tensor,
    rstds: tl.tensor,
    out: tl.tensor,
    rows: tl.tensor,
    N: tl.tensor,
    size: tl.tensor,  # read by tuning alone
    C: tl.constexpr,
    J: tl.constexpr,
    STAR: tl.constexpr,
    CENTER: tl.constexpr,
    PRECISION: tl.constexpr,
    GROUPED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
) -> None:
    """One tile of the hidden tokens (rows, J)."""
    down, across = own_tile(rows, J, ROWS, COLUMNS, GROUPED)
    row, column = down * ROWS + tl.arange(0, ROWS), across * COLUMNS + tl.arange(0, COLUMNS)
    mean = of_sample(means, row, rows, N)
    rstd = of_sample(rstds, row, rows, N)
    total = product_of_tile(x, weight, mean, row, column, rows, C, J, C, 1, CENTER, PRECISION, ROWS, COLUMNS, INNER)
    a = normalized_product(total, sums, mean, rstd, column, J, CENTER)
    a += tl.load(shift + column, mask=column < J, other=0.0)[None, :]
    h = activated(a, star_scale, star_bias, STAR)
    place = row.to(tl.int64)[:, None] * J + column[None, :]
    tl.store(out + place, h.to(out.dtype.element_ty), mask=(row < rows)[:, None] & (column < J)[None, :])


@triton.autotune(PRODUCTS, key=["size", "C", "J", "SCALED", "SKIPPED"])
@triton.jit
def _residual(
    hidden: tl.tensor,
    weight: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    bias: tl.tensor,
    scale: tl.tensor,
    skip: tl.tensor,
    keep: tl.tensor,
    means: tl.tensor,
    squares: tl.tensor,
    rows: tl.tensor,
    N: tl.tensor,
    size: tl.tensor,  # read by tuning alone
    C: tl.constexpr,
    J: tl.constexpr,
    BIASED: tl.constexpr,
    SCALED: tl.constexpr,
    SKIPPED: tl.constexpr,
    KEPT: tl.constexpr,
    PRECISION: tl.constexpr,
    GROUPED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
) -> None:
    """One tile of y from the hidden tokens, and its rows' moments."""
    down, across = own_tile(rows, C, ROWS, COLUMNS, GROUPED)
    row, column = down * ROWS + tl.arange(0, ROWS), across * COLUMNS + tl.arange(0, COLUMNS)
    none = tl.zeros((ROWS,), tl.float32)
    total = product_of_tile(hidden, weight, none, row, column, rows, J, C, J, 1, False, PRECISION, ROWS, COLUMNS, INNER)
    _finish(
        total,
        x,
        y,
        bias,
        scale,
        skip,
        keep,
        means,
        squares,
        row,
        column,
        rows,
        N,
        across,
        tl.cdiv(C, COLUMNS),
        C,
        BIASED,
        SCALED,
        SKIPPED,
        KEPT,
    )


@triton.autotune(FUSED, key=["size", "C", "J", "STAR", "CENTER", "SCALED", "SKIPPED"])
@triton.jit
def _both(
    x: tl.tensor,
    first: tl.tensor,
    sums: tl.tensor,
    shift: tl.tensor,
    star_scale: tl.tensor,
    star_bias: tl.tensor,
    sample_means: tl.tensor,
    rstds: tl.tensor,
    second: tl.tensor,
    y: tl.tensor,
    bias: tl.tensor,
    scale: tl.tensor,
    skip: tl.tensor,
    keep: tl.tensor,
    means: tl.tensor,
    squares: tl.tensor,
    rows: tl.tensor,
    N: tl.tensor,
    size: tl.tensor,  # read by tuning alone
    C: tl.constexpr,
    J: tl.constexpr,
    STAR: tl.constexpr,
    CENTER: tl.constexpr,
    BIASED: tl.constexpr,
    SCALED: tl.constexpr,
    SKIPPED: tl.constexpr,
    KEPT: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    HIDDEN: tl.constexpr,
) -> None:
    """Whole rows of y: the hidden tokens pass through registers, HIDDEN channels at a time."""
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    mean = of_sample(sample_means, row, rows, N)
    rstd = of_sample(rstds, row, rows, N)
    valid = (row < rows)[:, None] & (column < C)[None, :]
    a = tl.load(x + row.to(tl.int64)[:, None] * C + column[None, :], mask=valid, other=0.0)
    if CENTER:
        a = a.to(tl.float32) - mean[:, None]
    a = a.to(first.dtype.element_ty)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, J, HIDDEN):
        inner = start + tl.arange(0, HIDDEN)
        fits = (column < C)[:, None] & (inner < J)[None, :]
        one = tl.load(first + inner[None, :] * C + column[:, None], mask=fits, other=0.0)
        product = normalized_product(tl.dot(a, one, input_precision=PRECISION), sums, mean, rstd, inner, J, CENTER)
        product += tl.load(shift + inner, mask=inner < J, other=0.0)[None, :]
        # Past J the shift is 0, but StarReLU's bias is not; the second matrix has zeros there.
        h = activated(product, star_scale, star_bias, STAR).to(second.dtype.element_ty)
        other = (inner < J)[:, None] & (column < C)[None, :]
        two = tl.load(second + column[None, :] * J + inner[:, None], mask=other, other=0.0)
        total = tl.dot(h, two, total, input_precision=PRECISION)
    _finish(
        total,
        x,
        y,
        bias,
        scale,
        skip,
        keep,
        means,
        squares,
        row,
        column,
        rows,
        N,
        0,
        1,
        C,
        BIASED,
        SCALED,
        SKIPPED,
        KEPT,
    )


def normalized_mlp(
    x: Tensor,
    weights: MLPWeights,
    stats: Statistics,
    keep: Tensor | None,
    dtype: torch.dtype,
    next_eps: float,
    products: torch.dtype,
    fused: bool,
) -> tuple[Tensor, Statistics]:
    """The second half of a block, in ``dtype``, and the statistics of the result."""
    samples, tokens, width = x.shape
    rows, inner = samples * tokens, len(weights.fc1_weight)
    folded = fold(weights, products)
    second = weights.fc2_weight.to(products)
    y = torch.empty(x.shape, device=x.device, dtype=dtype)
    room = Partials(x, tokens, width, 1, width if fused else smallest(_residual, "COLUMNS"))
    first_ones = first_arguments(weights, folded, stats)
    last_ones = (
        y,
        *(tensor_or(part, folded.shift) for part in (weights.fc2_bias, weights.scale, weights.skip, keep)),
        room.means,
        room.squares,
        rows,
        tokens,
        size_class(rows),
    )
    shape = {"C": width, "J": inner, "PRECISION": precision()}
    kind = {"STAR": weights.star_scale is not None, "CENTER": centered(x, products)}
    parts = {
        "BIASED": weights.fc2_bias is not None,
        "SCALED": weights.scale is not None,
        "SKIPPED": weights.skip is not None,
        "KEPT": keep is not None,
    }
    if fused:
        _both[lambda meta: (triton.cdiv(rows, meta["ROWS"]),)](
            x, *first_ones, second, *last_ones, **shape, **kind, **parts, WIDTH=max(16, triton.next_power_of_2(width))
        )
        return y, room.merged(1, width, next_eps)
    met: dict[str, int] = {}
    hidden = torch.empty(rows, inner, device=x.device, dtype=products)
    _hidden[tiles_of(rows, inner, met)](
        x, *first_ones, hidden, rows, tokens, size_class(rows), **shape, **kind, GROUPED=GROUPED
    )
    _residual[tiles_of(rows, width, met)](hidden, second, x, *last_ones, **shape, **parts, GROUPED=GROUPED)
    return y, room.merged(1, met["COLUMNS"], next_eps)
