"""Multi-head self-attention as a token mixer: every token looks at every other."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import SpecError
from ...types import Grid


class Attention(nn.Module):
    """softmax(q·kᵀ / √d)·v in heads, by PyTorch's fused ``scaled_dot_product_attention``.

    Heads are given by their width ``head_dim`` (the MetaFormer papers) or by their number ``heads`` (ViT).
    """

    def __init__(
        self,
        dim: int,
        *,
        head_dim: int = 32,
        heads: int | None = None,
        qkv_bias: bool = False,
        proj_bias: bool = True,
    ) -> None:
        super().__init__()
        if heads is None and (head_dim < 1 or dim % head_dim):
            raise SpecError(f"head_dim: expected a divisor of the width {dim}, got {head_dim}")
        self.heads = heads or dim // head_dim
        if dim % self.heads:
            raise SpecError(f"heads: expected a divisor of the width {dim}, got {self.heads}")
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim, bias=proj_bias)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape; ``mask`` (B, N) is true where a token may be looked at."""
        batch, count, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        visible = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, dim))

    def extra_repr(self) -> str:
        """Number of heads."""
        return f"heads={self.heads}"
