"""Token mixers of convolutions: depthwise, separable, and any module of maps.

Over a sequence a k × k window becomes one of k tokens. A kernel reads zeros in place of padding, as outside the map.
"""

from __future__ import annotations

from torch import Tensor, nn

from ...errors import SpecError
from ...types import Grid
from ..layers import activation_of
from ..tokens import both_ways, on_map, refuse_padding


class OnMap(nn.Module):
    """A token mixer from any module that keeps the shape of maps ``(B, C, H, W)``; a sequence is a map of one row.

    Only a single convolution accepts a mask with padding: after a first layer the padding is no longer zero.

    >>> mixer = lambda dim: OnMap(nn.Conv2d(dim, dim, 5, padding=2, groups=dim))
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        if not isinstance(self.module, nn.Conv2d):
            refuse_padding(mask, f"OnMap({type(self.module).__name__})")
        return on_map(x, grid, self.module, mask)


class DepthwiseConv(nn.Module):
    """One small kernel for each channel (MetaFormer, table 5)."""

    def __init__(self, dim: int, *, grid: Grid = (), kernel: int = 3, bias: bool = True) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise SpecError(f"kernel: expected an odd window such as 3, got {kernel}")
        self.conv = depthwise(dim, kernel, grid, bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        return on_map(x, grid, self.conv, mask)


class SeparableConv(nn.Module):
    """Pointwise, activation, depthwise, pointwise: MobileNetV2's inverted bottleneck (MetaFormer Baselines, 3.2)."""

    def __init__(
        self,
        dim: int,
        *,
        grid: Grid = (),
        kernel: int = 7,
        expansion: float = 2.0,
        activation: str = "star_relu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(expansion * dim)
        self.pwconv1 = nn.Linear(dim, hidden, bias=bias)
        self.act = activation_of(activation)
        self.dwconv = depthwise(hidden, kernel, grid, bias)
        self.pwconv2 = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.pwconv2(on_map(self.act(self.pwconv1(x)), grid, self.dwconv, mask))


def depthwise(dim: int, kernel: int, grid: Grid, bias: bool) -> nn.Conv2d:
    """A convolution of each channel by itself that keeps the size of the map, for grids of this many dimensions."""
    padding = both_ways(kernel // 2, grid, 0)
    return nn.Conv2d(dim, dim, both_ways(kernel, grid, 1), padding=padding, groups=dim, bias=bias)
