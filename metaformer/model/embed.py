"""The entry of a stage: embeddings (stem and downsampling alike), positions, prefix tokens.

An embedding maps tokens ``(B, N, C)`` on a grid to tokens ``(B, N', C')`` on another grid, and their mask with them. An
image enters as one token a pixel with ``in_chans`` channels, a sequence as ids ``(B, N)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..types import Grid
from .layers import normalize
from .tokens import MaskedTokens, check_length, to_map, to_tokens, zero_padding


class ConvEmbedding(nn.Module):
    """A convolution of the map with a norm before, after, or not at all (MetaFormer, equation 1).

    Over a sequence (``line``) the window is ``kernel`` tokens long.
    """

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
        line: bool = False,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.line = line
        moves = (kernel, stride, padding) if not line else ((1, kernel), (1, stride), (0, padding))
        self.conv = nn.Conv2d(in_dim, dim, *moves)
        self.post_norm = post_norm

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> MaskedTokens:
        """(B, H·W, C) to (B, H'·W', C'), the new grid, and the mask of both."""
        kernel, padding = self.conv.kernel_size[1], int(self.conv.padding[1])
        if min(grid) + 2 * padding < kernel:
            raise InputError(
                f"a map of {' × '.join(map(str, grid))} is smaller than the embedding's window of {kernel} × {kernel}: "
                "use larger images, or build the model with a smaller stem_stride"
                if not self.line
                else f"a sequence of {grid[0]} tokens is shorter than the embedding's window of {kernel}: pad it"
            )
        y = self.conv(to_map(zero_padding(normalize(self.pre_norm, x, mask), mask), grid))
        new = tuple(y.shape[3:] if self.line else y.shape[2:])
        if mask is not None:
            # A window counts as real if it would exist without the padding, that is, if the sequence reaches its last
            # token but for the convolution's own zeros on both sides. So a padded sequence gets as many real tokens
            # as the same sequence alone.
            last = kernel - 1 - 2 * padding
            steps = (torch.arange(n, device=x.device) * self.conv.stride[1] for n in new)
            mask = _at(mask, grid, [(step + last).clamp(min=0) for step in steps])
        return normalize(self.post_norm, to_tokens(y), mask), new, mask


def _at(mask: Tensor, grid: Grid, places: Sequence[Tensor]) -> Tensor:
    """The mask (B, N) of a grid at chosen rows and columns, (B, N')."""
    picked = mask.view(-1, *grid)
    for axis, index in enumerate(places, start=1):
        picked = picked.index_select(axis, index)
    return picked.flatten(1)


class MergeEmbedding(nn.Module):
    """Joins 2 × 2 neighbors to 4C channels, normalizes, projects without bias (Swin, section 3.1).

    An odd side is padded by zeros. The order of the joined neighbors is Swin's: down the rows first. Of a sequence
    (``line``) it joins 2 neighbors to 2C channels.
    """

    def __init__(self, in_dim: int, dim: int, *, norm: nn.Module, line: bool = False) -> None:
        super().__init__()
        self.norm = norm
        self.line = line
        self.reduction = nn.Linear((2 if line else 4) * in_dim, dim, bias=False)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> MaskedTokens:
        """(B, H·W, C) to (B, H/2·W/2, C'), the new grid, and the mask of both."""
        height, width = (1, *grid) if self.line else grid
        y = zero_padding(x, mask).reshape(x.shape[0], height, width, x.shape[2])
        down, along = 0 if self.line else height % 2, width % 2
        if down or along:
            y = F.pad(y, (0, 0, 0, along, 0, down))
        even, odd = y[:, :, 0::2], y[:, :, 1::2]
        parts = [even, odd] if self.line else [even[:, 0::2], even[:, 1::2], odd[:, 0::2], odd[:, 1::2]]
        y = torch.cat(parts, dim=-1)
        new = (y.shape[2],) if self.line else (y.shape[1], y.shape[2])
        if mask is not None:
            mask = _at(mask, grid, [torch.arange(0, side, 2, device=x.device) for side in grid])
        return self.reduction(normalize(self.norm, y.flatten(1, 2), mask)), new, mask


class TokenEmbedding(nn.Embedding):
    """A learned vector for each id of a vocabulary."""

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> MaskedTokens:  # type: ignore[override]
        """Ids (B, L) to (B, L, C), the grid and the mask as they were."""
        return super().forward(x), grid, mask


class NoEmbedding(nn.Module):
    """Leaves the tokens and their grid as they are."""

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> MaskedTokens:
        """(B, N, C), returned as it is."""
        return x, grid, mask


class Position(nn.Module):
    """A learned vector for each position, added once; resampled when the grid is another.

    Prefix tokens get vectors of their own, in front. ``resampling`` is ``bicubic`` (with antialiasing) or
    ``bilinear``. A shorter sequence takes the first vectors: its second token
    stays the second whatever follows.
    """

    def __init__(self, dim: int, *, grid: Grid, prefix_tokens: int = 0, resampling: str = "bicubic") -> None:
        super().__init__()
        self.grid, self.prefix_tokens, self.resampling = grid, prefix_tokens, resampling
        self.table = nn.Parameter(torch.zeros(1, prefix_tokens + prod(grid), dim))

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, P + N, C) to the same shape."""
        return x + self.resampled(grid).to(x.dtype)

    def resampled(self, grid: Grid) -> Tensor:
        """The table (1, P + N, C) for a grid.

        Raises:
            InputError: a sequence longer than the table.
        """
        if len(grid) == 1:  # before the comparison below: an exporter would forbid the one length that is equal
            check_length(self.grid, grid, "the position table")
            return self.table[:, : self.prefix_tokens + grid[0]]
        if grid == self.grid:
            return self.table
        prefix, table = self.table[:, : self.prefix_tokens], self.table[:, self.prefix_tokens :]
        bicubic = self.resampling == "bicubic"
        # In float32: in half precision each vector would be rounded once more than the table itself.
        resized = F.interpolate(
            to_map(table, self.grid).float(), size=grid, mode=self.resampling, antialias=bicubic, align_corners=False
        )
        return torch.cat([prefix, to_tokens(resized).to(table.dtype)], dim=1)


class NoPosition(nn.Module):
    """No positions: the tokens pass unchanged."""

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, N, C), returned as it is."""
        return x


class PrefixTokens(nn.Module):
    """Learned tokens in front of the grid's tokens (ViT's class token)."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.zeros(1, count, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, P + N, C)."""
        return torch.cat([self.tokens.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)
