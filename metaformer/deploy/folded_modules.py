"""What stands in a folded model where no module of the original one fits any more.

Folded modules are for inference: they have no dropout and no stochastic depth, and some write over their own
intermediate results.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.layers import GroupNorm
from ..model.lean.formulas import statistics
from ..model.tokens import on_map
from ..types import Grid


class ScaledPooling(nn.Module):
    """A factor for each channel times (average of the neighbors − the token), or times the average alone.

    Pooling, linear over the tokens and the same for every channel, lets the scales around it pass; what a norm had
    added to a channel is the same in a token and in the average of its neighbors, and cancels in the difference.
    """

    def __init__(self, factor: Tensor, *, kernel: int, subtract: bool) -> None:
        super().__init__()
        self.factor = nn.Parameter(factor, requires_grad=False)
        self.kernel, self.subtract = kernel, subtract

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        pooled = neighborhood(x, grid, self.kernel)
        return (pooled - x if self.subtract else pooled) * self.factor


class PooledResidual(nn.Module):
    """x + factor · rstd(x) · (average of the neighbors − x): group norm, pooling, LayerScale and shortcut in one.

    The norm's mean and bias cancel in the difference, the padding of the average does not count, and what is left of
    the norm is one number an image, so no normalized copy is made.
    """

    def __init__(self, factor: Tensor, *, eps: float, kernel: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(factor, requires_grad=False)
        self.eps, self.kernel = eps, kernel

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, N, C) to the same shape."""
        return torch.lerp(x, neighborhood(x, grid, self.kernel), self.factor * self.deviation(x))

    def deviation(self, x: Tensor) -> Tensor:
        """One over the standard deviation of all numbers of each image, (B, 1, 1)."""
        return statistics(x, self.eps).rstd.to(x.dtype)[:, None, None]

    def extra_repr(self) -> str:
        """Width, eps and window."""
        return f"{self.factor.numel()}, eps={self.eps}, kernel={self.kernel}"


class BareGroupNorm(GroupNorm):
    """A group norm whose affine went elsewhere: without a factor for each channel the order in memory is free."""

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
        x = self.pooled(x, grid)
        x = self.skip2(x) + self.branch2(self.mlp(self.norm2(x)))
        return x


class ShiftedSquaredReLU(nn.Module):
    """relu(x)² + b: a StarReLU whose scale went into the next layer, which pads and so cannot take b too."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return F.relu(x).square() + self.bias


def neighborhood(x: Tensor, grid: Grid, kernel: int) -> Tensor:
    """The average of each token's neighbors (B, N, C); places outside the grid do not count."""
    return on_map(x, grid, lambda m: F.avg_pool2d(m, kernel, stride=1, padding=kernel // 2, count_include_pad=False))
