"""The spatial gating unit: half of the channels gate the other half, after a linear layer over the tokens."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from ...errors import SpecError
from ...types import Grid
from ..layers import LayerNorm, activation_of
from ..tokens import zero_padding
from .spatial import check_grid, over_tokens


class GatingUnit(nn.Module):
    """Widen, split in halves u and v, mix the tokens of v, u · v, project back (gMLP, section 2).

    It does the work of a channel MLP too, so its models have none. ``ratio`` is the widened width over the width. The
    eps of the inner norm is independent of the block's.
    """

    def __init__(
        self,
        dim: int,
        *,
        grid: Grid,
        prefix_tokens: int = 0,
        ratio: float = 6.0,
        activation: str = "gelu",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        hidden = int(ratio * dim)
        if hidden < 2 or hidden % 2:
            raise SpecError(f"ratio: expected an even widened width, got {hidden} from {ratio} × {dim}")
        self.grid = grid
        count = prod(grid) + prefix_tokens
        self.fc1 = nn.Linear(dim, hidden)
        self.act = activation_of(activation)
        self.norm = LayerNorm(hidden // 2, eps=norm_eps)
        self.fc = nn.Linear(count, count)
        self.fc2 = nn.Linear(hidden // 2, dim)

    def initialize(self) -> None:
        """Start as a plain channel MLP: a gate of ones (gMLP, section 2.1)."""
        nn.init.normal_(self.fc.weight, std=1e-6)  # "near-zero values" in the paper; timm's number
        nn.init.ones_(self.fc.bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape, N as built, or less in a sequence."""
        check_grid(self.grid, grid, self)
        u, v = self.act(self.fc1(x)).chunk(2, dim=-1)
        return self.fc2(u * over_tokens(self.fc, zero_padding(self.norm(v), mask), x.shape[1]))
