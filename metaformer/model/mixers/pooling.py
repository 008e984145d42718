"""Token mixers without a learned parameter: identity and average pooling.

A token mixer is any module with ``forward(x, grid, mask=None)`` that keeps the shape of tokens ``(B, N, C)``.
"""

from __future__ import annotations

from torch import Tensor, nn
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
    """Average of the neighbors, minus the token itself (MetaFormer, equation 4).

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
        pooled = on_map(x, grid, self._average)
        return pooled - x if self.subtract else pooled

    def _average(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel, stride=1, padding=self.kernel // 2, count_include_pad=False)

    def extra_repr(self) -> str:
        """Window and subtraction."""
        return f"kernel={self.kernel}, subtract={self.subtract}"
