"""Token mixers that are matrices over the positions: one or two learned layers, or one frozen at random.

They are tied to the grid they were built for: another image size needs another ``img_size`` when building. A sequence
may be shorter: it reads the top left corner of the matrix. Padding enters as zeros.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from ...errors import InputError, SpecError
from ...types import Grid
from ..layers import activation_of
from ..tokens import check_length, zero_padding


def check_grid(built_for: Grid, grid: Grid, mixer: nn.Module) -> None:
    """Refuse tokens on another grid than the mixer was built for; a sequence may be shorter."""
    if len(grid) == len(built_for) == 1:
        check_length(built_for, grid, type(mixer).__name__)
    elif grid != built_for:
        raise InputError(
            f"{type(mixer).__name__} mixes a fixed grid: it was built for {_size(built_for)} tokens and got "
            f"{_size(grid)}. Use images of the size the model was built for, or build it for this size with "
            "create_model(..., img_size=...)."
        )


def _size(grid: Grid) -> str:
    return "×".join(str(side) for side in grid)


def over_tokens(layer: nn.Linear, x: Tensor, rows: int | None = None) -> Tensor:
    """A linear layer along the tokens of (B, N, C), without a transposition: W·x + b, with one bias a token.

    For fewer tokens than the layer was built for it uses the first columns of W, and the first ``rows``.
    """
    weight = layer.weight[:rows, : x.shape[1]]
    if layer.bias is None:
        return torch.matmul(weight, x)
    # Expanding copies nothing, and baddbmm adds the bias within the product.
    bias = layer.bias[:rows, None].expand(x.shape[0], -1, x.shape[2])
    return torch.baddbmm(bias, weight.expand(x.shape[0], -1, -1), x)


class SpatialFC(nn.Module):
    """One linear layer over the positions, shared by all channels (MetaFormer, section 4.4; ResMLP, section 2).

    With ``heads`` the channels are split into so many groups with a matrix each (Swin-Mixer).
    """

    def __init__(self, dim: int, *, grid: Grid, prefix_tokens: int = 0, bias: bool = False, heads: int = 1) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise SpecError(f"heads: expected a divisor of the width {dim}, got {heads}")
        self.grid, self.heads = grid, heads
        count = prod(grid) + prefix_tokens
        # Row block h of the weight is the matrix of head h: what a grouped 1 × 1 convolution stores.
        self.fc = nn.Linear(count, heads * count, bias=bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape, N as built, or less in a sequence."""
        check_grid(self.grid, grid, self)
        x = zero_padding(x, mask)
        return over_tokens(self.fc, x, x.shape[1]) if self.heads == 1 else self._in_heads(x)

    def _in_heads(self, x: Tensor) -> Tensor:
        batch, count, dim = x.shape
        weight = self.fc.weight.view(self.heads, -1, self.fc.in_features)[:, :count, :count]
        # One matrix product a head: batch and channels together are the columns.
        width = dim // self.heads
        columns = x.view(batch, count, self.heads, width).permute(2, 1, 0, 3).reshape(self.heads, count, batch * width)
        mixed = torch.bmm(weight, columns)
        if self.fc.bias is not None:
            mixed = mixed + self.fc.bias.view(self.heads, -1, 1)[:, :count]
        return mixed.view(self.heads, count, batch, width).permute(2, 1, 0, 3).reshape(batch, count, dim)

    def extra_repr(self) -> str:
        """Grid and heads."""
        return f"grid={self.grid}, heads={self.heads}"


class SpatialMLP(nn.Module):
    """Two linear layers over the positions with an activation between them (MLP-Mixer, section 2).

    ``hidden`` is the inner width; left out it is half the channels, as published.
    """

    def __init__(
        self,
        dim: int,
        *,
        grid: Grid,
        prefix_tokens: int = 0,
        hidden: int | None = None,
        activation: str = "gelu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        inner = dim // 2 if hidden is None else hidden
        if inner < 1:
            raise SpecError(f"hidden: expected at least 1, got {inner}")
        self.grid = grid
        count = prod(grid) + prefix_tokens
        self.fc1 = nn.Linear(count, inner, bias=bias)
        self.act = activation_of(activation)
        self.fc2 = nn.Linear(inner, count, bias=bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape, N as built, or less in a sequence."""
        check_grid(self.grid, grid, self)
        return over_tokens(self.fc2, self.act(over_tokens(self.fc1, zero_padding(x, mask))), x.shape[1])


class RandomMixing(nn.Module):
    """A frozen random matrix over the positions, each row a softmax (MetaFormer Baselines, section 3.1).

    It is a parameter without gradient: saved with the weights, counted among the parameters, never trained.
    """

    def __init__(self, dim: int, *, grid: Grid, prefix_tokens: int = 0) -> None:
        super().__init__()
        self.grid = grid
        count = prod(grid) + prefix_tokens
        self.matrix = nn.Parameter(torch.rand(count, count).softmax(-1), requires_grad=False)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape, N as built, or less in a sequence."""
        check_grid(self.grid, grid, self)
        matrix = self.matrix[: x.shape[1], : x.shape[1]]
        mixed = matrix @ zero_padding(x, mask)
        if mask is None and len(grid) > 1:
            return mixed
        # A row that lost some of its columns no longer sums to 1; divided by its remaining sum it is a mean again.
        real = torch.ones_like(x[..., 0]) if mask is None else mask.to(x.dtype)
        return mixed / (real @ matrix.T).clamp(min=1e-12)[..., None]
