"""Token mixers without a learned parameter: identity and average pooling.

A token mixer is any module with ``forward(x, grid, mask=None)`` that keeps the shape of tokens ``(B, N, C)``.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ...errors import SpecError
from ...types import Grid
from ..tokens import on_map


class Identity(nn.Module):
    """No mixing at all: the paper's lower bound (MetaFormer, section 4.4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C), returned as it is."""
        return x


class Pooling(nn.Module):
    """Average of the neighbours, minus the token itself (MetaFormer, equation 4).

    The block adds the token back through its shortcut, which is why it is subtracted here. Positions outside the
    map do not count: a corner averages 4 tokens of a 3 × 3 window.
    """

    def __init__(self, dim: int, *, kernel: int = 3, subtract: bool = True) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise SpecError(f"kernel: expected an odd window such as 3, got {kernel}")
        self.kernel, self.subtract = kernel, subtract

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        if _learns_on_the_cpu(x, grid):
            averaged: Tensor = _Average.apply(x, grid, self.kernel, self.subtract)
            return averaged
        pooled = on_map(x, grid, self._average)
        return pooled - x if self.subtract else pooled

    def _average(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel, stride=1, padding=self.kernel // 2, count_include_pad=False)

    def extra_repr(self) -> str:
        """Window and subtraction."""
        return f"kernel={self.kernel}, subtract={self.subtract}"


def _learns_on_the_cpu(x: Tensor, grid: Grid) -> bool:
    """Whether the faster way is open: it is written for the CPU, and exports keep the operation that they know."""
    exported = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if exported or x.device.type != "cpu" or not (torch.is_grad_enabled() and x.requires_grad):
        return False
    # sums of numbers with few digits would lose some, and prefix tokens read the mean before the subtraction
    return x.dtype in (torch.float32, torch.float64) and x.shape[1] == prod(grid)


class _Average(torch.autograd.Function):
    """The average of ``Pooling`` by shifted sums along the columns, then along the rows.

    PyTorch's ``avg_pool2d`` visits the whole window of every token, on its way back as well, and took a quarter of a
    training step of a small PoolFormer on the CPU; this takes an eighth. A sum over the neighbours
    is its own transpose, so that backward is the same sum of the gradients over their counts.
    """

    generate_vmap_rule = True  # gradients of each picture, through torch.func

    @staticmethod
    def forward(x: Tensor, grid: Grid, kernel: int, subtract: bool) -> Tensor:
        """(B, N, C) to the same shape."""
        y = _box(x, grid, kernel).mul_(_shares(x, grid, kernel))
        return y.sub_(x) if subtract else y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Grid, int, bool], output: Tensor) -> None:
        """What the way back needs; no tensor is among it."""
        _, ctx.grid, ctx.kernel, ctx.subtract = inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """(B, N, C) to the same shape."""
        spread = _box(gradient * _shares(gradient, ctx.grid, ctx.kernel), ctx.grid, ctx.kernel)
        return spread.sub_(gradient) if ctx.subtract else spread, None, None, None


def _box(x: Tensor, grid: Grid, kernel: int) -> Tensor:
    """The sum over each token's window: (B, N, C) to the same shape, a new tensor."""
    height, width = grid if len(grid) == 2 else (1, *grid)
    over_rows = _sum_along(x.reshape(x.shape[0], height, width * x.shape[2]), kernel // 2)
    over_both = _sum_along(over_rows.view(x.shape[0] * height, width, x.shape[2]), kernel // 2)
    return over_both.view(x.shape)


def _sum_along(x: Tensor, reach: int) -> Tensor:
    """Of (A, L, M) the sums over up to ``reach`` neighbours on both sides along L."""
    y = x.clone()
    for step in range(1, min(reach, x.shape[1] - 1) + 1):
        y[:, :-step] += x[:, step:]
        y[:, step:] += x[:, :-step]
    return y


def _shares(x: Tensor, grid: Grid, kernel: int) -> Tensor:
    """One over the number of tokens in the window of each: (N, 1), like ``x``."""
    return _box(x.new_ones(1, prod(grid), 1), grid, kernel)[0].reciprocal_()
