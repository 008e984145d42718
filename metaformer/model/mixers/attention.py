"""Multi-head self-attention as a token mixer: full, with reduced keys and values, or with relative positions."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError, SpecError
from ...types import Grid
from ..layers import LayerNorm
from ..tokens import both_ways, to_map, to_tokens, zero_padding
from .spatial import check_grid


def head_count(dim: int, head_dim: int, heads: int | None) -> int:
    """Number of heads, from their width ``head_dim`` (the MetaFormer papers) or given as ``heads`` (ViT)."""
    if heads is None and (head_dim < 1 or dim % head_dim):
        raise SpecError(f"head_dim: expected a divisor of the width {dim}, got {head_dim}")
    count = heads if heads is not None else dim // head_dim
    if count < 1 or dim % count:
        raise SpecError(f"heads: expected a divisor of the width {dim}, got {count}")
    return count


class Attention(nn.Module):
    """softmax(q·kᵀ / √d)·v in heads, by PyTorch's fused ``scaled_dot_product_attention``.

    Heads are given by their width ``head_dim`` or by their number ``heads``. ``relative_position`` adds a learned
    bias for each offset between two tokens of a fixed grid, as inside Swin's windows.
    """

    reads_mask = True
    """It also takes a mask of pairs of tokens, which ``Window`` needs where it rolls the map."""

    def __init__(
        self,
        dim: int,
        *,
        grid: Grid = (),
        prefix_tokens: int = 0,
        head_dim: int = 32,
        heads: int | None = None,
        qkv_bias: bool = False,
        proj_bias: bool = True,
        relative_position: bool = False,
    ) -> None:
        super().__init__()
        self.heads = head_count(dim, head_dim, heads)
        if relative_position and prefix_tokens:
            raise SpecError(
                f"relative_position: expected no prefix tokens, got {prefix_tokens}: they have no place on the grid; "
                "leave relative_position off"
            )
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.relative = RelativePosition(self.heads, grid=grid) if relative_position else None
        self.proj = nn.Linear(dim, dim, bias=proj_bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape.

        ``mask`` (B, N) is true where a token may be read. A mask (M, N, N) is true where token i may read token j, with
        the batch a multiple of M (the windows of an image).
        """
        batch, count, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        # PyTorch wants bias and queries of one type; under autocast the table is float32 still.
        bias = None if self.relative is None else self.relative(grid).to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=_visible(bias, mask, batch))
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, dim))

    def extra_repr(self) -> str:
        """Number of heads."""
        return f"heads={self.heads}"


def _visible(bias: Tensor | None, mask: Tensor | None, batch: int) -> Tensor | None:
    """The bias (1, heads, N, N) of q·kᵀ with the mask in it, or the mask alone, as PyTorch's attention takes it."""
    if mask is None:
        return bias
    allowed = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
    joined = allowed if bias is None else bias.masked_fill(~allowed, -torch.inf)
    return joined if mask.ndim == 2 else joined.repeat(batch // mask.shape[0], 1, 1, 1)


class RelativePosition(nn.Module):
    """A learned number for each head and each offset between two places on a grid (Swin, section 3.2)."""

    def __init__(self, heads: int, *, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.zeros(prod(2 * side - 1 for side in grid), heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, grid: Grid) -> Tensor:
        """The bias (1, heads, N, N)."""
        check_grid(self.grid, grid, self)
        count = prod(grid)
        index = _offsets(self.grid, grid, self.table.device)
        return self.table[index].view(count, count, -1).permute(2, 0, 1).unsqueeze(0)


@lru_cache(maxsize=64)
def _offsets(built_for: Grid, grid: Grid, device: torch.device) -> Tensor:
    """Which row of the table each pair of tokens reads, (N·N,); rows run over offsets from the most negative one."""
    # A tensor made in inference mode could not take part in training later, and the cache would hand it out again.
    with torch.inference_mode(False):
        places = torch.cartesian_prod(*(torch.arange(side, device=device) for side in grid)).view(-1, len(grid))
        offsets = places[:, None] - places[None, :]
        row = torch.zeros(offsets.shape[:2], dtype=torch.long, device=device)
        for axis, side in enumerate(built_for):
            row = row * (2 * side - 1) + offsets[..., axis] + side - 1
        return row.flatten()


class ReducedAttention(nn.Module):
    """Spatial-reduction attention: keys and values come from a map ``ratio`` times smaller (PVT, section 3.3)."""

    def __init__(
        self,
        dim: int,
        *,
        grid: Grid,
        prefix_tokens: int = 0,
        ratio: int = 2,
        head_dim: int = 64,
        heads: int | None = None,
        qkv_bias: bool = True,
        proj_bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads = head_count(dim, head_dim, heads)
        if ratio < 1 or ratio > min(grid):
            raise SpecError(f"ratio: expected 1 to {min(grid)}, the shorter side of the grid {grid}, got {ratio}")
        if ratio > 1 and prefix_tokens:
            raise SpecError(
                f"ratio: expected 1 where prefix tokens run along ({prefix_tokens} here), got {ratio}: they have no "
                "place on the reduced map; put them into a later stage, or use attention"
            )
        self.reads_mask = ratio == 1  # a mask of pairs does not fit the keys of a reduced map
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.reduction = SpatialReduction(dim, ratio, grid) if ratio > 1 else WholeMap()
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim, bias=proj_bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape; ``mask`` (B, N) is true where a token may be read."""
        batch, count, dim = x.shape
        source, visible = self.reduction(x, grid, mask)
        split = (self.heads, dim // self.heads)
        q = self.q(x).reshape(batch, count, *split).transpose(1, 2)
        k, v = self.kv(source).reshape(batch, source.shape[1], 2, *split).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=_visible(None, visible, batch))
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, dim))

    def extra_repr(self) -> str:
        """Number of heads."""
        return f"heads={self.heads}"


class SpatialReduction(nn.Module):
    """A convolution whose window is its stride, then a norm (eps 1e-5 as published, whatever the block's is).

    The last rows and columns of a map that fill no window are left out, as published. A sequence gets zeros at its end
    instead, so that its last tokens are read.
    """

    def __init__(self, dim: int, ratio: int, grid: Grid) -> None:
        super().__init__()
        self.ratio, self.axes = ratio, len(grid)
        self.window = both_ways(ratio, grid, 1)
        self.conv = nn.Conv2d(dim, dim, self.window, self.window)
        self.norm = LayerNorm(dim, eps=1e-5)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, N, C) to (B, N / ratio², C), and the mask with it: a window with a real token is real."""
        if len(grid) != self.axes or (self.axes == 2 and min(grid) < self.ratio):
            raise InputError(
                f"a map of {' × '.join(map(str, grid))} is smaller than the reduction's window of {self.ratio}: "
                "use larger images"
            )
        m = to_map(zero_padding(x, mask), grid)
        missing = -grid[0] % self.ratio if self.axes == 1 else 0
        if missing:
            m = F.pad(m, (0, missing))
        if mask is not None:
            real = F.pad(to_map(mask[..., None].float(), grid), (0, missing))
            mask = F.max_pool2d(real, self.window).flatten(1).bool()
        return self.norm(to_tokens(self.conv(m))), mask


class WholeMap(nn.Module):
    """No reduction: keys and values come from every token."""

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, N, C), returned as it is."""
        return x, mask
