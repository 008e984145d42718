"""Products over tokens (B, N, C) in tiles, with the norm before them and the activation behind: what forwards and
backwards of a block's second half share.

Rows are the B N tokens; J is the hidden width. The norm never has a pass of its own:

- Where x has the type that is multiplied in, the product reads x as it lies and the mean is taken out behind it,
  rstd (x Wγᵀ) - rstd mean (Wγ 1) + v, with sums accumulated in float32 (``formulas.fold``).
- Where x is rounded on the way in (float32 tokens, bfloat16 products), the mean goes first, or the rounding of a large
  mean would drown what differs (``CENTER``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from metaformer.model.lean.formulas import Folded, MLPWeights, Statistics

from .tuning import INTERPRETED, tiles

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
GROUPED = 8
"""Tiles of rows that go through all columns together, so that both operands stay in the cache."""


@triton.jit
def own_tile(rows: tl.tensor, columns: tl.tensor, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GROUPED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Which tile this program has: GROUPED tiles of rows before the next column."""
    down, across = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    group = tl.program_id(0) // (GROUPED * across)
    first = group * GROUPED
    size = tl.minimum(down - first, GROUPED)
    inside = tl.program_id(0) % (GROUPED * across)
    return first + inside % size, inside // size


@triton.jit
def of_sample(numbers: tl.tensor, row: tl.tensor, rows: tl.tensor, N: tl.tensor):  # type: ignore[no-untyped-def]
    """For each row the number of the sample that it belongs to; rows past the end have 0."""
    return tl.load(numbers + row // N, mask=row < rows, other=0.0)


@triton.jit
def product_of_tile(  # type: ignore[no-untyped-def]
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
    CENTER: tl.constexpr,
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
        if CENTER:
            a = a.to(tl.float32) - mean[:, None]
        total = tl.dot(a.to(right.dtype.element_ty), b, total, input_precision=PRECISION)
    return total


@triton.jit
def normalized_product(  # type: ignore[no-untyped-def]
    total: tl.tensor,
    sums: tl.tensor,
    mean: tl.tensor,
    rstd: tl.tensor,
    column: tl.tensor,
    J: tl.constexpr,
    CENTER: tl.constexpr,
):
    """The product of the normalized x from that of x: the pre-activation without its shift."""
    if CENTER:
        return rstd[:, None] * total
    gone = tl.load(sums + column, mask=column < J, other=0.0)
    return rstd[:, None] * (total - mean[:, None] * gone[None, :])


@triton.jit
def activated(a: tl.tensor, star_scale: tl.tensor, star_bias: tl.tensor, STAR: tl.constexpr):  # type: ignore[no-untyped-def]
    """StarReLU, or GELU by the error function."""
    if STAR:
        positive = tl.maximum(a, 0.0)
        return tl.load(star_scale).to(tl.float32) * positive * positive + tl.load(star_bias).to(tl.float32)
    return 0.5 * a * (1.0 + tl.erf(a * 0.7071067811865476))


@triton.jit
def slope(a: tl.tensor, star_scale: tl.tensor, STAR: tl.constexpr):  # type: ignore[no-untyped-def]
    """The activation's derivative."""
    if STAR:
        return 2.0 * tl.load(star_scale).to(tl.float32) * tl.maximum(a, 0.0)
    return 0.5 * (1.0 + tl.erf(a * 0.7071067811865476)) + a * tl.exp(-0.5 * a * a) * 0.3989422804014327


def product_type(wanted: torch.dtype) -> torch.dtype:
    """The type in which products are computed: the interpreter cannot multiply in bfloat16."""
    return torch.float32 if INTERPRETED and wanted == torch.bfloat16 else wanted


def precision() -> str:
    """float32 products as ``torch.set_float32_matmul_precision`` allows them; other types have no choice."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def centered(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether x is rounded on its way into a product."""
    return x.dtype != dtype or (dtype == torch.float32 and precision() == "tf32")


def tiles_of(rows: int, columns: int, met: dict[str, int]) -> Callable[[dict[str, int]], tuple[int]]:
    """Programs for the tile that tuning takes; that tile is left in ``met``."""

    def programs(meta: dict[str, int]) -> tuple[int]:
        met.update(ROWS=meta["ROWS"], COLUMNS=meta["COLUMNS"])
        return (triton.cdiv(rows, meta["ROWS"]) * triton.cdiv(columns, meta["COLUMNS"]),)

    return programs


def tensor_or(tensor: Tensor | None, placeholder: Tensor) -> Tensor:
    """A kernel's argument that is not read still has to be a tensor."""
    return placeholder if tensor is None else tensor


def first_arguments(weights: MLPWeights, folded: Folded, stats: Statistics) -> tuple[Tensor, ...]:
    """What every kernel that computes the pre-activation reads beside x."""
    star = (tensor_or(weights.star_scale, folded.shift), tensor_or(weights.star_bias, folded.shift))
    return folded.weight, folded.sums, folded.shift, *star, stats.mean, stats.rstd
