"""Modules of folded models, for inference only: without dropout and stochastic depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.layers import GroupNorm
from ..model.lean.formulas import statistics
from ..model.mixers.pooling import Pooling
from ..types import Grid


class ScaledPooling(nn.Module):
    """A factor per channel times (average of the neighbors − the token), or times the average alone.

    Pooling is linear over the tokens and the same for every channel, so scales before and after it become one factor.
    A norm's shift is the same in a token and in the average of its neighbors, and cancels in the difference.
    """

    def __init__(self, factor: Tensor, *, kernel: int, subtract: bool) -> None:
        super().__init__()
        self.factor = nn.Parameter(factor, requires_grad=False)
        self.pooling = Pooling(factor.numel(), kernel=kernel, subtract=subtract)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.pooling(x, grid, mask) * self.factor


class PooledResidual(nn.Module):
    """x + factor · rstd(x) · (average of the neighbors − x): group norm, pooling, LayerScale and shortcut in one.

    The norm's mean and bias cancel in the difference and padding does not count in the average. So one number per image
    remains of the norm, and no normalized copy is written.
    """

    def __init__(self, factor: Tensor, *, eps: float, kernel: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(factor, requires_grad=False)
        self.eps, self.kernel = eps, kernel
        self.average = Pooling(factor.numel(), kernel=kernel, subtract=False)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        if mask is None:
            rstd = statistics(x, self.eps).rstd.to(x.dtype)[:, None, None]
            return torch.lerp(x, self.average(x, grid), self.factor * rstd)
        # The statistics are those of the real tokens, which only the norm itself knows.
        unit = BareGroupNorm(self.factor.numel(), self.eps)(x, mask)
        return x + self.factor * (self.average(unit, grid, mask) - unit)

    def extra_repr(self) -> str:
        """Width and eps."""
        return f"{self.factor.numel()}, eps={self.eps}"


class BareGroupNorm(GroupNorm):
    """A group norm whose affine is folded elsewhere. Without a factor per channel it accepts tokens in any layout."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__(dim, eps, bias=False)
        self.register_parameter("weight", None)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        return F.group_norm(x, 1, eps=self.eps) if mask is None else self.over_real(x, mask)


class PooledBlock(nn.Module):
    """A block whose first half is a ``PooledResidual``; the second half is the formula's."""

    def __init__(
        self, *, pooled: PooledResidual, norm2: nn.Module, mlp: nn.Module, branch2: nn.Module, skip2: nn.Module
    ) -> None:
        super().__init__()
        self.pooled, self.norm2, self.mlp, self.branch2, self.skip2 = pooled, norm2, mlp, branch2, skip2

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        x = self.pooled(x, grid, mask)
        x = self.skip2(x) + self.branch2(self.mlp(self.norm2(x)))
        return x


class ShiftedSquaredReLU(nn.Module):
    """relu(x)² + b: a StarReLU whose scale is in the next layer, which pads and so cannot take b as well."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return F.relu(x).square() + self.bias
