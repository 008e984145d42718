"""Token mixers without a learned parameter: identity and average pooling.

A token mixer is any module with ``forward(x, grid, mask=None)`` that keeps the shape of tokens ``(B, N, C)``.
"""

from __future__ import annotations

from functools import partial
from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import SpecError
from ...types import Grid
from ..tokens import both_ways, grid_mask, on_map, to_map


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
    map do not count: at a corner a 3 × 3 window averages 4 tokens. Padding does not count either.
    """

    def __init__(self, dim: int, *, kernel: int = 3, subtract: bool = True) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise SpecError(f"kernel: expected an odd window such as 3, got {kernel}")
        self.kernel, self.subtract = kernel, subtract

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        pooled = on_map(x, grid, lambda m: self._average(m, grid, mask), mask)
        return pooled - x if self.subtract else pooled

    def _average(self, x: Tensor, grid: Grid, mask: Tensor | None) -> Tensor:
        window, padding = both_ways(self.kernel, grid, 1), both_ways(self.kernel // 2, grid, 0)
        average = partial(F.avg_pool2d, kernel_size=window, stride=1, padding=padding, count_include_pad=False)
        pooled = average(x)
        real = grid_mask(mask, grid)
        if real is None:
            return pooled
        # Padding is zero in x, so dividing by the share of real neighbors gives the mean over those alone. A window
        # without any is 0 / 0; the clamp makes it 0.
        share = average(to_map(real[..., None].to(x.dtype), grid))
        return pooled / share.clamp(min=0.5 / prod(window))

    def extra_repr(self) -> str:
        """Window and subtraction."""
        return f"kernel={self.kernel}, subtract={self.subtract}"
