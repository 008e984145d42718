"""What brings tokens onto a stage's grid: embeddings (stem and downsampling alike), positions, prefix tokens.

An embedding maps tokens ``(B, N, C)`` on a grid to tokens ``(B, N', C')`` on its own; an image is tokens of
``in_chans`` channels, one a pixel.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..types import Grid
from .tokens import to_map, to_tokens


class ConvEmbedding(nn.Module):
    """A convolution of the map with a norm before, after, or not at all (MetaFormer, equation 1)."""

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        kernel: int,
        stride: int,
        padding: int,
        pre_norm: nn.Module,
        post_norm: nn.Module,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.conv = nn.Conv2d(in_dim, dim, kernel, stride, padding)
        self.post_norm = post_norm

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """(B, H·W, C) to (B, H'·W', C') and the new grid."""
        kernel, padding = self.conv.kernel_size[0], int(self.conv.padding[0])
        if min(grid) + 2 * padding < kernel:
            raise InputError(
                f"a map of {' × '.join(map(str, grid))} is smaller than the embedding's window of {kernel} × {kernel}: "
                "feed larger images, or build the model with a smaller stem_stride"
            )
        y = self.conv(to_map(self.pre_norm(x), grid))
        return self.post_norm(to_tokens(y)), tuple(y.shape[2:])


class MergeEmbedding(nn.Module):
    """Joins 2 × 2 neighbors to 4C channels, normalizes, projects without bias (Swin, section 3.1).

    An odd side is padded by zeros. The order of the joined neighbors is Swin's: down the rows first.
    """

    def __init__(self, in_dim: int, dim: int, *, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.reduction = nn.Linear(4 * in_dim, dim, bias=False)

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """(B, H·W, C) to (B, H/2·W/2, C') and the new grid."""
        height, width = grid
        y = x.reshape(x.shape[0], height, width, x.shape[2])
        if height % 2 or width % 2:
            y = F.pad(y, (0, 0, 0, width % 2, 0, height % 2))
        y = torch.cat([y[:, 0::2, 0::2], y[:, 1::2, 0::2], y[:, 0::2, 1::2], y[:, 1::2, 1::2]], dim=-1)
        return self.reduction(self.norm(y.flatten(1, 2))), (y.shape[1], y.shape[2])


class NoEmbedding(nn.Module):
    """Leaves the tokens and their grid as they are."""

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        """(B, N, C), returned as it is."""
        return x, grid


class Position(nn.Module):
    """A learned vector for each position, added once; resampled when the grid is another.

    Prefix tokens get vectors of their own, in front. ``resampling`` is ``bicubic`` (with antialiasing) or
    ``bilinear``.
    """

    def __init__(self, dim: int, *, grid: Grid, prefix_tokens: int = 0, resampling: str = "bicubic") -> None:
        super().__init__()
        self.grid, self.prefix_tokens, self.resampling = grid, prefix_tokens, resampling
        self.table = nn.Parameter(torch.zeros(1, prefix_tokens + prod(grid), dim))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, P + N, C) to the same shape."""
        return x + self.resampled(grid).to(x.dtype)

    def resampled(self, grid: Grid) -> Tensor:
        """The table (1, P + N, C) for a grid."""
        if grid == self.grid:
            return self.table
        prefix, table = self.table[:, : self.prefix_tokens], self.table[:, self.prefix_tokens :]
        bicubic = self.resampling == "bicubic"
        resized = F.interpolate(
            to_map(table, self.grid).float(), size=grid, mode=self.resampling, antialias=bicubic, align_corners=False
        )
        return torch.cat([prefix, to_tokens(resized).to(table.dtype)], dim=1)


class NoPosition(nn.Module):
    """Adds nothing."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, N, C), returned as it is."""
        return x


class PrefixTokens(nn.Module):
    """Learned tokens put in front of the grid's tokens (ViT's class token)."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.zeros(1, count, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, P + N, C)."""
        return torch.cat([self.tokens.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)
