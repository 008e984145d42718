"""Token mixers that convolve the map: depthwise, separable, and any map module of one's own."""

from __future__ import annotations

from torch import Tensor, nn

from ...errors import SpecError
from ...types import Grid
from ..layers import activation_of
from ..tokens import on_map


class OnMap(nn.Module):
    """Makes a token mixer of any module that keeps the shape of maps ``(B, C, H, W)``.

    >>> mixer = lambda dim: OnMap(nn.Conv2d(dim, dim, 5, padding=2, groups=dim))
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        return on_map(x, grid, self.module)


class DepthwiseConv(nn.Module):
    """One small kernel for each channel (MetaFormer, table 5)."""

    def __init__(self, dim: int, *, kernel: int = 3, bias: bool = True) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise SpecError(f"kernel: expected an odd window such as 3, got {kernel}")
        self.conv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        return on_map(x, grid, self.conv)


class SeparableConv(nn.Module):
    """Pointwise, activation, depthwise, pointwise: MobileNetV2's inverted bottleneck (MetaFormer Baselines, 3.2)."""

    def __init__(
        self,
        dim: int,
        *,
        kernel: int = 7,
        expansion: float = 2.0,
        activation: str = "star_relu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(expansion * dim)
        self.pwconv1 = nn.Linear(dim, hidden, bias=bias)
        self.act = activation_of(activation)
        self.dwconv = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=bias)
        self.pwconv2 = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.pwconv2(on_map(self.act(self.pwconv1(x)), grid, self.dwconv))
