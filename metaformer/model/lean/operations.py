"""The two halves of a block as differentiable operations over tokens (B, N, C), on Triton's kernels where they run.

    y, after = pooling_residual(x, grid, weight, bias, scale, skip)     # x + scale (pool(norm(x)) - norm(x))
    z, after = normalized_mlp(y, ..., stats=after)                      # y + scale mlp(norm(y))

Each gives the statistics of what it wrote beside it: the next norm needs no pass of its own. They are marked as numbers
without a gradient; whoever uses them takes their share into its own gradient by x, so the result is exact.

Where kernels do not run (no CUDA device, no Triton, float64), ``formulas`` computes the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module, util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...types import Grid
from . import formulas
from .formulas import MLPWeights, PoolingWeights, Statistics

TYPES = (torch.float32, torch.float16, torch.bfloat16)
"""What kernels read and write."""


@cache
def _kernels(name: str) -> ModuleType:
    """A module of kernels; imported late, because Triton is not everywhere."""
    return import_module(f"{__package__}.triton.{name}")


@cache
def triton_installed() -> bool:
    """Whether Triton can be imported."""
    return util.find_spec("triton") is not None


def runs_on_kernels(x: Tensor) -> bool:
    """Whether Triton takes these tokens: floats of at most 32 bits on a CUDA device, or anywhere if interpreted."""
    asked_for = x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    if not asked_for or x.dtype not in TYPES or not triton_installed() or x.numel() == 0:
        return False
    return x.is_cuda or bool(_kernels("tuning").INTERPRETED)


@contextmanager
def _at(x: Tensor) -> Iterator[None]:
    """On the device of these tokens, where kernels start, and without autocast: types are chosen here, and it would
    round the small products of weights too."""
    device = torch.cuda.device(x.device) if x.is_cuda else nullcontext()
    with device, torch.autocast(x.device.type, enabled=False):
        yield


def statistics(x: Tensor, eps: float = 1e-5) -> Statistics:
    """Mean and 1 / sqrt(variance + eps) of each sample of contiguous tokens (B, N, C), without a gradient."""
    x = x.detach()
    with _at(x):
        return _kernels("moments").statistics(x, eps) if runs_on_kernels(x) else formulas.statistics(x, eps)


def result_type(x: Tensor, *weights: Tensor | None) -> torch.dtype:
    """What a block's sum has: the wider of tokens and weights (under autocast the norms answer in float32)."""
    dtype = x.dtype
    for weight in weights:
        dtype = dtype if weight is None else torch.promote_types(dtype, weight.dtype)
    return dtype


@dataclass(frozen=True)
class PoolingPlan:
    """What is no tensor in the first half."""

    grid: Grid
    kernel: int
    next_eps: float


class _PoolingResidual(torch.autograd.Function):
    """Keeps x and the statistics. The norm's bias has no influence and a gradient of exact zeros."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: PoolingPlan,
        x: Tensor,
        stats: Statistics,
        keep: Tensor | None,
        bias: Tensor | None,
        *parts: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights = PoolingWeights(*parts)  # type: ignore[arg-type]  # the first is never None
        place = (weights, stats, keep, plan.grid, plan.kernel)
        dtype = result_type(x, *parts)
        with _at(x):
            if runs_on_kernels(x):
                y, after = _kernels("stencil").pooling_residual(x, *place, dtype, plan.next_eps)
            else:
                y = formulas.pooling_residual(x, *place).to(dtype)
                after = formulas.statistics(y, plan.next_eps)
        ctx.plan, ctx.has_bias = plan, bias is not None
        ctx.save_for_backward(x, *stats, keep, *parts)
        ctx.mark_non_differentiable(*after)
        return y, *after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Any, ...]:
        x, mean, rstd, keep, *parts = ctx.saved_tensors
        weights = PoolingWeights(*parts)
        rooms = _kernels("stencil") if runs_on_kernels(x) else formulas
        with _at(x):
            found = rooms.pooling_residual_gradients(
                g.contiguous(), x, weights, Statistics(mean, rstd), keep, ctx.plan.grid, ctx.plan.kernel
            )
        by_bias = torch.zeros_like(weights.weight) if ctx.has_bias else None
        return None, found.x.to(x.dtype), None, None, by_bias, *_like(found[1:], parts)


def pooling_residual(
    x: Tensor,
    grid: Grid,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    skip: Tensor | None = None,
    *,
    kernel: int = 3,
    eps: float = 1e-5,
    next_eps: float = 1e-5,
    stats: Statistics | None = None,
    keep: Tensor | None = None,
) -> tuple[Tensor, Statistics]:
    """skip x + keep scale (pool(n) - n) with n the group norm of x (one group); the average leaves out the border.

    Args:
        x: contiguous tokens (B, H W, C).
        grid: (H, W).
        weight: (C,), the norm's.
        bias: (C,), the norm's. It cancels; it is taken so that it has its gradient, zeros, as in the plain block.
        scale: (C,), LayerScale; None means 1.
        skip: (C,), ResScale; None means 1.
        kernel: the window's side, odd.
        eps: the norm's.
        next_eps: that of the norm that reads the result.
        stats: x's ``statistics`` where they are known.
        keep: (B,), what stochastic depth multiplies each sample's branch with.

    Returns:
        The tokens (B, H W, C) and their statistics.
    """
    stats = statistics(x, eps) if stats is None else stats
    plan = PoolingPlan(grid, kernel, next_eps)
    y, mean, rstd = _PoolingResidual.apply(plan, x, stats, keep, bias, weight, scale, skip)
    return y, Statistics(mean, rstd)


@dataclass(frozen=True)
class MLPPlan:
    """What is no tensor in the second half."""

    next_eps: float
    fused: bool
    products: torch.dtype


class _NormalisedMLP(torch.autograd.Function):
    """Keeps x and the statistics; the formulas also keep what the activation saw, which kernels compute again."""

    @staticmethod
    def forward(
        ctx: Any, plan: MLPPlan, x: Tensor, stats: Statistics, keep: Tensor | None, *parts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights = MLPWeights(*parts)  # type: ignore[arg-type]  # those that must be there are
        dtype, before = result_type(x, *parts), None
        with _at(x):
            if runs_on_kernels(x):
                last = (dtype, plan.next_eps, plan.products, plan.fused)
                y, after = _kernels("mlp").normalized_mlp(x, weights, stats, keep, *last)
            else:
                wide_y, before = formulas.normalized_mlp(x, weights, stats, keep, plan.products)
                y = wide_y.to(dtype)
                after = formulas.statistics(y, plan.next_eps)
        ctx.plan = plan
        ctx.save_for_backward(x, before, *stats, keep, *parts)
        ctx.mark_non_differentiable(*after)
        return y, *after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Any, ...]:
        x, before, mean, rstd, keep, *parts = ctx.saved_tensors
        known = (MLPWeights(*parts), Statistics(mean, rstd), keep)
        with _at(x):
            if before is None:
                found = _kernels("mlp_gradients").normalized_mlp_gradients(g.contiguous(), x, *known, ctx.plan.products)
            else:
                found = formulas.normalized_mlp_gradients(g.contiguous(), x, before, *known)
        return None, found.x.to(x.dtype), None, None, *_like(found.weights, parts)


def normalized_mlp(
    x: Tensor,
    weights: MLPWeights,
    *,
    eps: float = 1e-5,
    next_eps: float = 1e-5,
    stats: Statistics | None = None,
    keep: Tensor | None = None,
    fused: bool = False,
) -> tuple[Tensor, Statistics]:
    """skip x + keep scale mlp(n) with n the group norm of x (one group).

    Args:
        x: contiguous tokens (B, N, C).
        weights: everything learned, see ``MLPWeights``.
        eps: the norm's.
        next_eps: that of the norm that reads the result.
        stats: x's ``statistics`` where they are known.
        keep: (B,), what stochastic depth multiplies each sample's branch with.
        fused: both products in one kernel, for narrow tokens.

    Returns:
        The tokens (B, N, C) and their statistics.
    """
    stats = statistics(x, eps) if stats is None else stats
    products = product_type(x)
    if runs_on_kernels(x):
        products = _kernels("products").possible(products)
    y, mean, rstd = _NormalisedMLP.apply(MLPPlan(next_eps, fused, products), x, stats, keep, *weights)
    return y, Statistics(mean, rstd)


def product_type(x: Tensor) -> torch.dtype:
    """What is multiplied in: autocast's type where it is on, else x's."""
    inside = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
    return torch.get_autocast_dtype(x.device.type) if inside else x.dtype


def _like(gradients: tuple[Tensor | None, ...], parts: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients in the types of what they belong to."""
    return tuple(
        None if gradient is None or part is None else gradient.to(part.dtype)
        for gradient, part in zip(gradients, parts, strict=True)
    )
