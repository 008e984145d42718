"""Kernels for a block's second half: skip x + keep scale (act(norm(x) W1ᵀ + b1) W2ᵀ + b2) over tokens (B, N, C).

Rows are the B N tokens; J is the hidden width. The norm never has a pass of its own:

- Where x has the type that is multiplied in, the product reads x as it lies and the mean is taken out behind it,
  rstd (x Wγᵀ) - rstd mean (Wγ 1) + v, with sums accumulated in float32 (``formulas.fold``).
- Where x is rounded on the way in (float32 tokens, bfloat16 products), the mean goes first, or the rounding of a large
  mean would drown what differs (``CENTRE``).

The residual is added where the second product leaves its accumulator, and each row's moments are left for the next norm
(``moments``). ``FUSED`` goes further for narrow stages: both products in one program, the hidden tokens never written.

Backwards computes the pre-activation again. It keeps x and two numbers a sample, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from .formulas import (
    Folded,
    MLPGradients,
    MLPSums,
    MLPWeights,
    Statistics,
    fold,
    scaled,
    weights_gradients,
    wide,
)
from .moments import Partials, row_moments
from .tuning import INTERPRETED, size_class, smallest, tiles

SMALL = {"ROWS": 32, "COLUMNS": 32, "INNER": 32}
PRODUCTS = tiles(
    (
        {"ROWS": 128, "COLUMNS": 128, "INNER": 64, "warps": 8, "stages": 3},
        {"ROWS": 128, "COLUMNS": 256, "INNER": 64, "warps": 8, "stages": 3},
        {"ROWS": 128, "COLUMNS": 128, "INNER": 32, "warps": 4, "stages": 4},
        {"ROWS": 128, "COLUMNS": 64, "INNER": 64, "warps": 4, "stages": 4},
        {"ROWS": 64, "COLUMNS": 128, "INNER": 64, "warps": 4, "stages": 4},
        {"ROWS": 64, "COLUMNS": 64, "INNER": 32, "warps": 4, "stages": 4},
    ),
    SMALL,
)
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
GROUPED = 8
"""Tiles of rows that go through all columns together, so that both operands stay in the cache."""
PROGRAMS = 512
"""How many programs a sum over all tokens is spread over, roughly: a few for each processor of a large GPU."""


@triton.jit
def _tile(rows: tl.tensor, columns: tl.tensor, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GROUPED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Which tile this program has: GROUPED tiles of rows before the next column."""
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    group = tl.program_id(0) // (GROUPED * across)
    first = group * GROUPED
    size = tl.minimum(down - first, GROUPED)
    inside = tl.program_id(0) % (GROUPED * across)
    return first + inside % size, inside // size


@triton.jit
def _product(  # type: ignore[no-untyped-def]
    left: tl.tensor,
    right: tl.tensor,
    mean: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    rows: tl.tensor,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    BY_COLUMN: tl.constexpr,
    BY_INNER: tl.constexpr,
    CENTRE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    """Sum over k < K of left[row, k] right[column, k], left contiguous; right's steps are given."""
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    here = row.to(tl.int64)[:, None] * K
    for start in range(0, K, INNER):
        inner = start + tl.arange(0, INNER)
        a = tl.load(left + here + inner[None, :], mask=(row < rows)[:, None] & (inner < K)[None, :], other=0.0)
        b = tl.load(
            right + inner[:, None] * BY_INNER + column[None, :] * BY_COLUMN,
            mask=(inner < K)[:, None] & (column < WIDTH)[None, :],
            other=0.0,
        )
        if CENTRE:
            a = a.to(tl.float32) - mean[:, None]
        total = tl.dot(a.to(right.dtype.element_ty), b, total, input_precision=PRECISION)
    return total


@triton.jit
def _normalised(  # type: ignore[no-untyped-def]
    total: tl.tensor,
    sums: tl.tensor,
    mean: tl.tensor,
    rstd: tl.tensor,
    column: tl.tensor,
    J: tl.constexpr,
    CENTRE: tl.constexpr,
):
    """The product of the normalised x from that of x: the pre-activation without its shift."""
    if CENTRE:
        return rstd[:, None] * total
    gone = tl.load(sums + column, mask=column < J, other=0.0)
    return rstd[:, None] * (total - mean[:, None] * gone[None, :])


@triton.jit
def _activation(a: tl.tensor, star_scale: tl.tensor, star_bias: tl.tensor, STAR: tl.constexpr):  # type: ignore[no-untyped-def]
    """StarReLU, or GELU by the error function."""
    if STAR:
        positive = tl.maximum(a, 0.0)
        return tl.load(star_scale).to(tl.float32) * positive * positive + tl.load(star_bias).to(tl.float32)
    return 0.5 * a * (1.0 + tl.erf(a * 0.7071067811865476))


@triton.jit
def _slope(a: tl.tensor, star_scale: tl.tensor, STAR: tl.constexpr):  # type: ignore[no-untyped-def]
    """The activation's derivative."""
    if STAR:
        return 2.0 * tl.load(star_scale).to(tl.float32) * tl.maximum(a, 0.0)
    return 0.5 * (1.0 + tl.erf(a * 0.7071067811865476)) + a * tl.exp(-0.5 * a * a) * 0.3989422804014327


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
        total *= tl.load(keep + row // N, mask=row < rows, other=0.0).to(tl.float32)[:, None]
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


@triton.autotune(PRODUCTS, key=["size", "C", "J", "STAR", "CENTRE"])
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
    CENTRE: tl.constexpr,
    PRECISION: tl.constexpr,
    GROUPED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
) -> None:
    """One tile of the hidden tokens (rows, J)."""
    down, across = _tile(rows, J, ROWS, COLUMNS, GROUPED)
    row, column = down * ROWS + tl.arange(0, ROWS), across * COLUMNS + tl.arange(0, COLUMNS)
    mean = tl.load(means + row // N, mask=row < rows, other=0.0)
    rstd = tl.load(rstds + row // N, mask=row < rows, other=0.0)
    total = _product(x, weight, mean, row, column, rows, C, J, C, 1, CENTRE, PRECISION, ROWS, COLUMNS, INNER)
    a = _normalised(total, sums, mean, rstd, column, J, CENTRE)
    a += tl.load(shift + column, mask=column < J, other=0.0)[None, :]
    h = _activation(a, star_scale, star_bias, STAR)
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
    down, across = _tile(rows, C, ROWS, COLUMNS, GROUPED)
    row, column = down * ROWS + tl.arange(0, ROWS), across * COLUMNS + tl.arange(0, COLUMNS)
    none = tl.zeros((ROWS,), tl.float32)
    total = _product(hidden, weight, none, row, column, rows, J, C, J, 1, False, PRECISION, ROWS, COLUMNS, INNER)
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


@triton.autotune(FUSED, key=["size", "C", "J", "STAR", "CENTRE", "SCALED", "SKIPPED"])
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
    CENTRE: tl.constexpr,
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
    mean = tl.load(sample_means + row // N, mask=row < rows, other=0.0)
    rstd = tl.load(rstds + row // N, mask=row < rows, other=0.0)
    valid = (row < rows)[:, None] & (column < C)[None, :]
    a = tl.load(x + row.to(tl.int64)[:, None] * C + column[None, :], mask=valid, other=0.0)
    if CENTRE:
        a = a.to(tl.float32) - mean[:, None]
    a = a.to(first.dtype.element_ty)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, J, HIDDEN):
        inner = start + tl.arange(0, HIDDEN)
        fits = (column < C)[:, None] & (inner < J)[None, :]
        one = tl.load(first + inner[None, :] * C + column[:, None], mask=fits, other=0.0)
        product = _normalised(tl.dot(a, one, input_precision=PRECISION), sums, mean, rstd, inner, J, CENTRE)
        product += tl.load(shift + inner, mask=inner < J, other=0.0)[None, :]
        # Past J the shift is 0, but StarReLU's bias is not; the second matrix has zeros there.
        h = _activation(product, star_scale, star_bias, STAR).to(second.dtype.element_ty)
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


@triton.autotune(PAIRED, key=["size", "C", "J", "STAR", "CENTRE", "KEPT"])
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
    CENTRE: tl.constexpr,
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
    down, across = _tile(rows, J, ROWS, COLUMNS, GROUPED)
    row, column = down * ROWS + tl.arange(0, ROWS), across * COLUMNS + tl.arange(0, COLUMNS)
    mean = tl.load(means + row // N, mask=row < rows, other=0.0)
    rstd = tl.load(rstds + row // N, mask=row < rows, other=0.0)
    total = _product(x, first, mean, row, column, rows, C, J, C, 1, CENTRE, PRECISION, ROWS, COLUMNS, INNER)
    product = _normalised(total, sums, mean, rstd, column, J, CENTRE)
    a = product + tl.load(shift + column, mask=column < J, other=0.0)[None, :]
    back = _product(g, second, mean, row, column, rows, C, J, 1, J, False, PRECISION, ROWS, COLUMNS, INNER)
    h = _activation(a, star_scale, star_bias, STAR)
    if KEPT:
        kept = tl.load(keep + row // N, mask=row < rows, other=0.0).to(tl.float32)
        back *= kept[:, None]
        h *= kept[:, None]
    # Rows and columns outside have back = 0, so that they add nothing to any sum.
    gradient = back * _slope(a, star_scale, STAR)
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
    down, across = _tile(rows, C, ROWS, COLUMNS, GROUPED)
    row, column = down * ROWS + tl.arange(0, ROWS), across * COLUMNS + tl.arange(0, COLUMNS)
    mean = tl.load(means + row // N, mask=row < rows, other=0.0)
    rstd = tl.load(rstds + row // N, mask=row < rows, other=0.0)
    total = _product(by_a, first, mean, row, column, rows, J, C, 1, C, False, PRECISION, ROWS, COLUMNS, INNER)
    valid = (row < rows)[:, None] & (column < C)[None, :]
    place = row.to(tl.int64)[:, None] * C + column[None, :]
    unit = (tl.load(x + place, mask=valid, other=0.0).to(tl.float32) - mean[:, None]) * rstd[:, None]
    from_mean = tl.load(by_mean + row // N, mask=row < rows, other=0.0)
    from_rstd = tl.load(by_rstd + row // N, mask=row < rows, other=0.0)
    through = rstd[:, None] * (total - from_mean[:, None] - unit * from_rstd[:, None])
    gradient = tl.load(g + place, mask=valid, other=0.0).to(tl.float32)
    if SKIPPED:
        gradient *= tl.load(skip + column, mask=column < C, other=0.0).to(tl.float32)[None, :]
    tl.store(out + place, (gradient + through).to(out.dtype.element_ty), mask=valid)


@triton.autotune(PRODUCTS, key=["size", "C", "J", "NORMALISE"])
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
    NORMALISE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
) -> None:
    """One tile of leftᵀ right over a chunk of tokens: (J, C) from (rows, J) and (rows, C), right normalised or not."""
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
        if NORMALISE:
            mean = tl.load(means + row // N, mask=row < end, other=0.0)
            rstd = tl.load(rstds + row // N, mask=row < end, other=0.0)
            b = (b.to(tl.float32) - mean[:, None]) * rstd[:, None]
        total = tl.dot(a, b.to(left.dtype.element_ty), total, input_precision=PRECISION)
    place = (tl.program_id(2).to(tl.int64) * J + j[:, None]) * C + c[None, :]
    tl.store(out + place, total, mask=(j < J)[:, None] & (c < C)[None, :])


def possible(dtype: torch.dtype) -> torch.dtype:
    """The type that products of this one are computed in: the interpreter has no bfloat16 products."""
    return torch.float32 if INTERPRETED and dtype == torch.bfloat16 else dtype


def _precision() -> str:
    """float32 products as ``torch.set_float32_matmul_precision`` allows them; other types have no choice."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def _centred(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether x is rounded on its way into a product."""
    return x.dtype != dtype or (dtype == torch.float32 and _precision() == "tf32")


def _tiles_of(rows: int, columns: int, met: dict[str, int]) -> Callable[[dict[str, int]], tuple[int]]:
    """Programs for the tile that tuning takes; that tile is left in ``met``."""

    def programs(meta: dict[str, int]) -> tuple[int]:
        met.update(ROWS=meta["ROWS"], COLUMNS=meta["COLUMNS"])
        return (triton.cdiv(rows, meta["ROWS"]) * triton.cdiv(columns, meta["COLUMNS"]),)

    return programs


def _or(tensor: Tensor | None, placeholder: Tensor) -> Tensor:
    """A kernel's argument that is not read still has to be a tensor."""
    return placeholder if tensor is None else tensor


def normalised_mlp(
    x: Tensor,
    weights: MLPWeights,
    stats: Statistics,
    keep: Tensor | None,
    dtype: torch.dtype,
    next_eps: float,
    multiplied: torch.dtype,
    fused: bool,
) -> tuple[Tensor, Statistics]:
    """The second half of a block, in ``dtype``, and the statistics of what it wrote; products in ``multiplied``."""
    samples, tokens, width = x.shape
    rows, inner = samples * tokens, len(weights.fc1_weight)
    folded = fold(weights, multiplied)
    second = weights.fc2_weight.to(multiplied)
    y = torch.empty(x.shape, device=x.device, dtype=dtype)
    room = Partials(x, tokens, width, 1, width if fused else smallest(_residual, "COLUMNS"))
    first_ones = _first_arguments(weights, folded, stats)
    last_ones = (
        y,
        *(_or(part, folded.shift) for part in (weights.fc2_bias, weights.scale, weights.skip, keep)),
        room.means,
        room.squares,
        rows,
        tokens,
        size_class(rows),
    )
    shape = {"C": width, "J": inner, "PRECISION": _precision()}
    kind = {"STAR": weights.star_scale is not None, "CENTRE": _centred(x, multiplied)}
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
    hidden = torch.empty(rows, inner, device=x.device, dtype=multiplied)
    _hidden[_tiles_of(rows, inner, met)](
        x, *first_ones, hidden, rows, tokens, size_class(rows), **shape, **kind, GROUPED=GROUPED
    )
    _residual[_tiles_of(rows, width, met)](hidden, second, x, *last_ones, **shape, **parts, GROUPED=GROUPED)
    return y, room.merged(1, met["COLUMNS"], next_eps)


def _first_arguments(weights: MLPWeights, folded: Folded, stats: Statistics) -> tuple[Tensor, ...]:
    """What every kernel that computes the pre-activation reads beside x."""
    star = (_or(weights.star_scale, folded.shift), _or(weights.star_bias, folded.shift))
    return folded.weight, folded.sums, folded.shift, *star, stats.mean, stats.rstd


def normalised_mlp_gradients(
    g: Tensor, x: Tensor, weights: MLPWeights, stats: Statistics, keep: Tensor | None, multiplied: torch.dtype
) -> MLPGradients:
    """The gradients by x, in its type, and by the weights, in float32."""
    samples, tokens, width = x.shape
    rows, inner = samples * tokens, len(weights.fc1_weight)
    folded = fold(weights, multiplied)
    star = weights.star_scale is not None
    hidden, by_a = torch.empty(2, rows, inner, device=x.device, dtype=multiplied)
    least = smallest(_hidden_gradients, "ROWS"), smallest(_hidden_gradients, "COLUMNS")
    most = triton.cdiv(rows, least[0]), triton.cdiv(inner, least[1])

    def room(*sizes: int) -> Tensor:
        return torch.empty(*sizes, device=x.device, dtype=torch.float32)

    row_sums, column_sums = room(most[1], rows, 2), room(most[0], inner)
    star_sums = room(most[0] * most[1] if star else 1, 2)
    met: dict[str, int] = {}
    weight, sums, shift, star_scale, star_bias, mean, rstd = _first_arguments(weights, folded, stats)
    shape = {"C": width, "J": inner, "PRECISION": _precision()}
    _hidden_gradients[_tiles_of(rows, inner, met)](
        x,
        g,
        weight,
        scaled(wide(weights.fc2_weight).T, weights.scale).T.to(multiplied).contiguous(),
        sums,
        shift,
        star_scale,
        star_bias,
        _or(keep, shift),
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
        CENTRE=_centred(x, multiplied),
        KEPT=keep is not None,
        GROUPED=GROUPED,
    )
    down, across = triton.cdiv(rows, met["ROWS"]), triton.cdiv(inner, met["COLUMNS"])
    by_statistics = row_sums[:across].sum(0).view(samples, tokens, 2).sum(1) / (tokens * width)
    by_star = star_sums[: down * across].sum(0)
    by_x = torch.empty_like(x)
    _input_gradient[_tiles_of(rows, width, met)](
        by_a,
        weight,
        x,
        g,
        _or(weights.skip, shift),
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
        second=_summed_over_tokens(hidden, g, stats, tokens, normalise=False).T,
        result=(by_sample if keep is None else by_sample * keep.float()[:, None]).sum(0),
        first=_summed_over_tokens(by_a, x, stats, tokens, normalise=True),
        hidden=column_sums[:down].sum(0),
        skip=None if weights.skip is None else (g * x).sum((0, 1), dtype=torch.float32),
        star_scale=by_star[:1] if star else None,
        star_bias=by_star[1:] if star else None,
    )
    return MLPGradients(by_x, weights_gradients(sums_of_tokens, weights))


def _summed_over_tokens(left: Tensor, right: Tensor, stats: Statistics, tokens: int, normalise: bool) -> Tensor:
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
        NORMALISE=normalise,
        PRECISION=_precision(),
    )
    return out.sum(0)
