"""The two halves of a block as differentiable operations over tokens (B, N, C).

    y, after = pooling_residual(x, grid, weight, bias, scale, skip)     # x + scale (pool(norm(x)) - norm(x))
    z, after = normalized_mlp(y, ..., stats=after)                      # y + scale mlp(norm(y))

Each returns the statistics of its result as well, so that the next norm needs no pass of its own. The statistics are
marked as not differentiable: their share of the gradient is part of the gradient by x, so the result is exact.

``formulas`` computes everything unless another implementation is registered in ``kernels`` (``contrib/triton``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ...types import Grid
from . import formulas
from .formulas import MLPGradients, MLPWeights, PoolingGradients, PoolingWeights, Statistics

TYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Types of tokens for which a lean block is computed; others take PyTorch's way."""


class Kernels(Protocol):
    """Another implementation of ``formulas``, for the tokens that it accepts. Arguments are as there, and:

    ``dtype`` is the type of the result, ``next_eps`` the eps of the norm that reads it, ``products`` the type in which
    matrices are multiplied, ``fused`` asks for both products of an MLP in one kernel.
    """

    def accept(self, x: Tensor) -> bool:
        """Whether these tokens are computed here."""
        ...

    def product_type(self, wanted: torch.dtype) -> torch.dtype:
        """The type in which products are computed if ``wanted`` is requested."""
        ...

    def statistics(self, x: Tensor, eps: float) -> Statistics:
        """Of contiguous tokens."""
        ...

    def pooling_residual(
        self,
        x: Tensor,
        weights: PoolingWeights,
        stats: Statistics,
        keep: Tensor | None,
        grid: Grid,
        kernel: int,
        dtype: torch.dtype,
        next_eps: float,
    ) -> tuple[Tensor, Statistics]:
        """The first half of a block and the statistics of the result."""
        ...

    def pooling_residual_gradients(
        self,
        g: Tensor,
        x: Tensor,
        weights: PoolingWeights,
        stats: Statistics,
        keep: Tensor | None,
        grid: Grid,
        kernel: int,
    ) -> PoolingGradients:
        """Its gradients."""
        ...

    def normalized_mlp(
        self,
        x: Tensor,
        weights: MLPWeights,
        stats: Statistics,
        keep: Tensor | None,
        dtype: torch.dtype,
        next_eps: float,
        products: torch.dtype,
        fused: bool,
    ) -> tuple[Tensor, Statistics]:
        """The second half of a block and the statistics of the result."""
        ...

    def normalized_mlp_gradients(
        self,
        g: Tensor,
        x: Tensor,
        weights: MLPWeights,
        stats: Statistics,
        keep: Tensor | None,
        products: torch.dtype,
    ) -> MLPGradients:
        """Its gradients."""
        ...


kernels: Kernels | None = None
"""Set by the package that brings kernels; None computes everything with ``formulas``."""


def kernels_for(x: Tensor) -> Kernels | None:
    """The registered kernels if they accept these tokens."""
    return kernels if kernels is not None and kernels.accept(x) else None


@contextmanager
def _at(x: Tensor) -> Iterator[None]:
    """On the device of these tokens, where kernels are launched, and without autocast: types are chosen here, and
    autocast would also round the small products of weights."""
    device = torch.cuda.device(x.device) if x.is_cuda else nullcontext()
    with device, torch.autocast(x.device.type, enabled=False):
        yield


def statistics(x: Tensor, eps: float = 1e-5) -> Statistics:
    """Mean and 1 / sqrt(variance + eps) of each sample of contiguous tokens (B, N, C), without a gradient."""
    x = x.detach()
    with _at(x):
        return (kernels_for(x) or formulas).statistics(x, eps)


def result_type(x: Tensor, *weights: Tensor | None) -> torch.dtype:
    """The type of a block's sum: the wider of tokens and weights (under autocast norms return float32)."""
    dtype = x.dtype
    for weight in weights:
        dtype = dtype if weight is None else torch.promote_types(dtype, weight.dtype)
    return dtype


@dataclass(frozen=True)
class PoolingPlan:
    """The first half's arguments that are not tensors."""

    grid: Grid
    kernel: int
    next_eps: float


class _PoolingResidual(torch.autograd.Function):
    """Keeps x and the statistics. The norm's bias cancels, so its gradient is exactly zero."""

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
            if found := kernels_for(x):
                y, after = found.pooling_residual(x, *place, dtype, plan.next_eps)
            else:
                y = formulas.pooling_residual(x, *place).to(dtype)
                after = formulas.statistics(y, plan.next_eps)
        # x and two numbers per sample: the norm's output and the average are computed again from them.
        ctx.plan, ctx.has_bias = plan, bias is not None
        ctx.save_for_backward(x, *stats, keep, *parts)
        ctx.mark_non_differentiable(*after)
        return y, *after

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Any, ...]:
        x, mean, rstd, keep, *parts = ctx.saved_tensors
        weights = PoolingWeights(*parts)
        # Views and expanded gradients (of a sum, say) are not contiguous, which kernels take for granted.
        with _at(x):
            found = (kernels_for(x) or formulas).pooling_residual_gradients(
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
    """The second half's arguments that are not tensors."""

    next_eps: float
    fused: bool
    products: torch.dtype


class _NormalizedMLP(torch.autograd.Function):
    """Keeps x and the statistics. The formulas also keep the pre-activation, which kernels compute again."""

    @staticmethod
    def forward(
        ctx: Any, plan: MLPPlan, x: Tensor, stats: Statistics, keep: Tensor | None, *parts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights = MLPWeights(*parts)  # type: ignore[arg-type]  # those that must be there are
        dtype, before = result_type(x, *parts), None
        with _at(x):
            if found := kernels_for(x):
                last = (dtype, plan.next_eps, plan.products, plan.fused)
                y, after = found.normalized_mlp(x, weights, stats, keep, *last)
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
            if before is None:  # forward ran on kernels, which compute the pre-activation again
                assert kernels is not None
                found = kernels.normalized_mlp_gradients(g.contiguous(), x, *known, ctx.plan.products)
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
        fused: both products in one kernel, where kernels are registered; for narrow tokens.

    Returns:
        The tokens (B, N, C) and their statistics.
    """
    stats = statistics(x, eps) if stats is None else stats
    products, found = product_type(x), kernels_for(x)
    if found is not None:
        products = found.product_type(products)
    y, mean, rstd = _NormalizedMLP.apply(MLPPlan(next_eps, fused, products), x, stats, keep, *weights)
    return y, Statistics(mean, rstd)


def product_type(x: Tensor) -> torch.dtype:
    """The type of products: autocast's where it is on, else x's."""
    # Autocast leaves float64 alone, too.
    inside = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
    return torch.get_autocast_dtype(x.device.type) if inside else x.dtype


def _like(gradients: tuple[Tensor | None, ...], parts: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients in the types of their tensors: autograd refuses any other."""
    return tuple(
        None if gradient is None or part is None else gradient.to(part.dtype)
        for gradient, part in zip(gradients, parts, strict=True)
    )
