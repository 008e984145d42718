"""The arithmetic of lean blocks in plain PyTorch, forward and backward. On a CPU it takes as much time as the plain
block and much less memory.

Tokens x are (B, N, C); ``mean`` and ``rstd``, (B,), are those of the whole sample: a group norm with one group
(MetaFormer, section 4.1). Two facts shorten the block, both exact:

- The mean and the bias of the norm are the same for all tokens, so pooling minus input cancels them:
  x + scale (pool(n) - n) with n = norm(x) is x + k rstd (pool(x) - x) with one vector k = scale weight.
- A linear layer after the norm reads x itself: norm(x) W1ᵀ + b1 = rstd (x - mean) Wγᵀ + v with Wγ = W1 diag(weight)
  and v = W1 bias + b1.

Every gradient is a function of x, of the incoming gradient and of these two statistics. So neither the normalized
tokens nor the average nor the branch before its scale is kept. The MLP keeps the tokens before its activation, because
computing them again would cost a matrix product. Results are written in place where that is safe: on a CPU most of the
time is spent on memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...types import Grid
from ..tokens import to_map, to_tokens


class Statistics(NamedTuple):
    """Of each sample over all its tokens and channels, (B,) each, at least float32."""

    mean: Tensor
    rstd: Tensor
    """1 / sqrt(variance + eps)."""


class PoolingWeights(NamedTuple):
    """Learned parts of a block's first half; absent ones are None."""

    weight: Tensor
    """(C,), the norm's."""
    scale: Tensor | None
    """(C,), LayerScale."""
    skip: Tensor | None
    """(C,), ResScale on the shortcut."""


class PoolingGradients(NamedTuple):
    """By x and by the learned parts; None for an absent part."""

    x: Tensor
    weight: Tensor
    scale: Tensor | None
    skip: Tensor | None


class MLPWeights(NamedTuple):
    """Learned parts of a block's second half; absent ones are None. J is the hidden width."""

    weight: Tensor
    """(C,), the norm's."""
    bias: Tensor | None
    """(C,), the norm's."""
    fc1_weight: Tensor
    """(J, C)."""
    fc1_bias: Tensor | None
    """(J,)."""
    fc2_weight: Tensor
    """(C, J)."""
    fc2_bias: Tensor | None
    """(C,)."""
    scale: Tensor | None
    """(C,), LayerScale."""
    skip: Tensor | None
    """(C,), ResScale on the shortcut."""
    star_scale: Tensor | None
    """(1,), StarReLU's scale; None means GELU."""
    star_bias: Tensor | None
    """(1,), StarReLU's bias."""


class MLPGradients(NamedTuple):
    """By x and by the learned parts, in the order of ``MLPWeights``."""

    x: Tensor
    weights: MLPWeights


@dataclass(frozen=True)
class Folded:
    """The first linear layer with the norm's affine inside it."""

    weight: Tensor
    """(J, C): W1 diag(weight)."""
    sums: Tensor
    """(J,): the sums of its rows, which subtract the mean after the product."""
    shift: Tensor
    """(J,): W1 bias + b1."""


def wide(x: Tensor) -> Tensor:
    """As float64 if it is, else as float32: sums and norms are never computed in half precision."""
    return x if x.dtype == torch.float64 else x.float()


def statistics(x: Tensor, eps: float) -> Statistics:
    """Mean and 1 / sqrt(variance + eps) of each sample.

    The variance is the squared length of the centered sample: ``torch.var_mean`` takes eight times as long on a CPU,
    and the mean of squares minus the squared mean loses digits.
    """
    x = wide(x).flatten(1)
    mean = x.mean(1)
    variance = torch.linalg.vector_norm(x - mean[:, None], dim=1).square() / x.shape[1]
    return Statistics(mean, (variance + eps).rsqrt())


def average(x: Tensor, grid: Grid, kernel: int) -> Tensor:
    """Mean over the window, without the places outside the map; (B, N, C) to the same."""
    pooled = F.avg_pool2d(to_map(x, grid), kernel, stride=1, padding=kernel // 2, count_include_pad=False)
    return to_tokens(pooled)


def average_transposed(g: Tensor, grid: Grid, kernel: int) -> Tensor:
    """The gradient of ``average``: each token passes an equal share to every token of its window."""
    # Pooling is symmetric but for the borders, where a token averages fewer: each gradient is divided by its own count.
    ones = torch.ones_like(to_map(g[:1, :, :1], grid))
    counts = F.avg_pool2d(ones, kernel, stride=1, padding=kernel // 2, divisor_override=1)
    shares = to_map(g, grid) / counts
    return to_tokens(F.avg_pool2d(shares, kernel, stride=1, padding=kernel // 2, divisor_override=1))


def per_sample(factor: Tensor) -> Tensor:
    """(B,) as (B, 1, 1), to be multiplied with tokens (B, N, C)."""
    return factor[:, None, None]


def scaled(x: Tensor, factor: Tensor | None) -> Tensor:
    """x times one factor per channel; x where there is no factor."""
    return x if factor is None else x * wide(factor)


def pooling_residual(
    x: Tensor, weights: PoolingWeights, stats: Statistics, keep: Tensor | None, grid: Grid, kernel: int
) -> Tensor:
    """skip x + keep scale weight rstd (pool(x) - x), at least in float32."""
    x = wide(x)
    difference = average(x, grid, kernel).sub_(x)
    return torch.addcmul(scaled(x, weights.skip), difference, _factors(weights, stats, keep))


def _factors(weights: PoolingWeights, stats: Statistics, keep: Tensor | None) -> Tensor:
    """keep rstd scale weight, (B, 1, C)."""
    return per_sample(_kept(stats, keep)) * scaled(wide(weights.weight), weights.scale)


def _kept(stats: Statistics, keep: Tensor | None) -> Tensor:
    """keep rstd, (B,)."""
    return stats.rstd if keep is None else stats.rstd * wide(keep)


def pooling_residual_gradients(
    g: Tensor, x: Tensor, weights: PoolingWeights, stats: Statistics, keep: Tensor | None, grid: Grid, kernel: int
) -> PoolingGradients:
    """From the gradient g (B, N, C) of the result, the gradients by x and the weights, in the wide type.

    The statistics are functions of x here: through rstd each entry of x also moves all others.
    """
    g, x = wide(g), wide(x)
    factors = _factors(weights, stats, keep)
    spread = average_transposed(g, grid, kernel).sub_(g)
    # A constant cancels in spread, so the mean may be subtracted from x first: large means then cost no digits.
    centered = x - per_sample(stats.mean)
    by_channel = (centered * spread).sum(1)  # (B, C): sum over tokens
    by_k = (by_channel * _kept(stats, keep)[:, None]).sum(0)
    # rstd depends on x by -rstd³ (x - mean) / (N C), summed over everything that it scales.
    through_rstd = (by_channel * factors[:, 0]).sum(1) * stats.rstd.square() / (x.shape[1] * x.shape[2])
    by_x = centered.mul_(-per_sample(through_rstd)).addcmul_(spread, factors).add_(scaled(g, weights.skip))
    return PoolingGradients(
        x=by_x,
        weight=scaled(by_k, weights.scale),
        scale=None if weights.scale is None else by_k * wide(weights.weight),
        skip=None if weights.skip is None else (g * x).sum((0, 1)),
    )


def fold(weights: MLPWeights, dtype: torch.dtype) -> Folded:
    """The norm's affine inside the first linear layer, rounded to ``dtype``.

    The sums are those of the rounded entries: only then does the mean cancel exactly.
    """
    first = wide(weights.fc1_weight)
    folded = (first * wide(weights.weight)).to(dtype)
    shift = first.new_zeros(len(first)) if weights.fc1_bias is None else wide(weights.fc1_bias)
    if weights.bias is not None:
        shift = shift + first @ wide(weights.bias)
    return Folded(folded, wide(folded).sum(1), shift)


def activation(before: Tensor, weights: MLPWeights) -> Tensor:
    """GELU by the error function, or StarReLU, in the type of its input."""
    if weights.star_scale is None or weights.star_bias is None:
        return F.gelu(before)
    return before.relu().square_().mul_(weights.star_scale.to(before.dtype)).add_(weights.star_bias.to(before.dtype))


def normalized_mlp(
    x: Tensor, weights: MLPWeights, stats: Statistics, keep: Tensor | None, products: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """skip x + keep scale (act(norm(x) W1ᵀ + b1) W2ᵀ + b2), at least in float32, and the tokens before ``act``.

    ``products`` is the type in which matrices are multiplied; by default x's, at least float32.
    """
    x = wide(x)
    products = products or x.dtype
    folded = fold(weights, products)
    before = F.linear(unit(x, stats).to(products), folded.weight, folded.shift.to(products))
    # LayerScale inside the second matrix: (J, C) multiplications instead of one per token.
    last = scaled(wide(weights.fc2_weight).T, weights.scale).T.to(products)
    bias = None if weights.fc2_bias is None else scaled(wide(weights.fc2_bias), weights.scale).to(products)
    branch = F.linear(activation(before, weights), last, bias).to(x.dtype)
    branch = branch if keep is None else branch.mul_(per_sample(wide(keep)))
    return branch.add_(scaled(x, weights.skip)), before


def unit(x: Tensor, stats: Statistics) -> Tensor:
    """x with mean 0 and variance 1 in each sample."""
    return (x - per_sample(stats.mean)).mul_(per_sample(stats.rstd))


@dataclass(frozen=True)
class MLPSums:
    """The sums over tokens from which the gradients of all weights follow: five, and two for StarReLU."""

    second: Tensor
    """(C, J): sum of keep g hᵀ, with h the hidden tokens."""
    result: Tensor
    """(C,): sum of keep g."""
    first: Tensor
    """(J, C): sum of the pre-activation's gradient times the centered, unit x."""
    hidden: Tensor
    """(J,): sum of the pre-activation's gradient."""
    skip: Tensor | None
    """(C,): sum of g x."""
    star_scale: Tensor | None
    """(1,)."""
    star_bias: Tensor | None
    """(1,)."""


def weights_gradients(sums: MLPSums, weights: MLPWeights) -> MLPWeights:
    """The gradients of all learned parts. LayerScale's follows from W2's, so the branch before it is not needed."""
    by_scale = None
    if weights.scale is not None:
        by_scale = (wide(weights.fc2_weight) * sums.second).sum(1)
        if weights.fc2_bias is not None:
            by_scale = by_scale + wide(weights.fc2_bias) * sums.result
    by_first = sums.first * wide(weights.weight)
    if weights.bias is not None:
        by_first = by_first + torch.outer(sums.hidden, wide(weights.bias))
    return MLPWeights(
        weight=(wide(weights.fc1_weight) * sums.first).sum(0),
        bias=None if weights.bias is None else sums.hidden @ wide(weights.fc1_weight),
        fc1_weight=by_first,
        fc1_bias=None if weights.fc1_bias is None else sums.hidden,
        fc2_weight=scaled(sums.second.T, weights.scale).T,
        fc2_bias=None if weights.fc2_bias is None else scaled(sums.result, weights.scale),
        scale=by_scale,
        skip=sums.skip,
        star_scale=sums.star_scale,
        star_bias=sums.star_bias,
    )


def normalized_mlp_gradients(
    g: Tensor, x: Tensor, before: Tensor, weights: MLPWeights, stats: Statistics, keep: Tensor | None
) -> MLPGradients:
    """From the gradient g (B, N, C) of the result, the gradients by x and the weights, in the wide type.

    ``before`` are the tokens (B, N, J) before the activation, in the type of the products.
    """
    g, x, products = wide(g), wide(x), before.dtype
    folded, star = fold(weights, products), weights.star_scale is not None
    kept = g if keep is None else g * per_sample(wide(keep))
    # Matrix products take the narrow type of the forward pass; all sums over tokens stay wide.
    narrow = rows(kept.to(products))
    hidden = activation(before, weights)
    second = wide(narrow.T @ rows(hidden))
    # Written over the hidden tokens, the largest tensor here, which are not needed any more.
    by_hidden = torch.mm(narrow, scaled(wide(weights.fc2_weight).T, weights.scale).T.to(products), out=rows(hidden))
    star_scale = (by_hidden * rows(before).relu().square()).sum().view(1) if star else None
    star_bias = by_hidden.sum().view(1) if star else None
    by_before = through_activation(by_hidden, rows(before), weights)
    centered = unit(x, stats)
    sums = MLPSums(
        second=second,
        result=column_sums(rows(kept)),
        first=wide(by_before.T @ rows(centered).to(products)),
        hidden=wide(column_sums(by_before)),
        skip=None if weights.skip is None else (g * x).sum((0, 1)),
        star_scale=None if star_scale is None else wide(star_scale),
        star_bias=None if star_bias is None else wide(star_bias),
    )
    by_unit = wide(by_before @ folded.weight).view_as(x)
    by_x = through_norm(by_unit, centered, stats).add_(scaled(g, weights.skip))
    return MLPGradients(by_x, weights_gradients(sums, weights))


def through_activation(by_hidden: Tensor, before: Tensor, weights: MLPWeights) -> Tensor:
    """The gradient by an activation's input, written over the gradient by its output."""
    if weights.star_scale is None:
        return torch.ops.aten.gelu_backward.grad_input(by_hidden, before, grad_input=by_hidden)
    return by_hidden.mul_(before.relu()).mul_(2 * weights.star_scale.to(by_hidden.dtype))


def through_norm(by_unit: Tensor, centered: Tensor, stats: Statistics) -> Tensor:
    """The gradient by a norm's input. Overwrites both the gradient by its ``unit`` output and that output."""
    entries = centered.shape[1] * centered.shape[2]
    along = (by_unit * centered).sum((1, 2)) / entries
    shifted = by_unit.sub_(per_sample(by_unit.mean((1, 2)))).sub_(centered.mul_(per_sample(along)))
    return shifted.mul_(per_sample(stats.rstd))


def rows(x: Tensor) -> Tensor:
    """(B, N, C) as (B N, C)."""
    return x.flatten(0, 1)


def column_sums(x: Tensor) -> Tensor:
    """(N, C) to (C,), as a product: on a CPU twice as fast as ``sum``."""
    return (x.new_ones(1, len(x)) @ x)[0]
