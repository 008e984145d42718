"""THE formula: norm, token mixer, residual; norm, channel MLP, residual (MetaFormer, equations 2 and 3).

Every part comes in built, and a missing part is ``nn.Identity``, so nothing here knows a name. Pre-norm blocks
leave the ``out_norm``s as identities, post-norm blocks the ``norm``s. Scales are LayerScale then stochastic depth.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..types import Grid


class Branch(nn.Sequential):
    """What happens to a branch before it is added: its learned scale, then stochastic depth."""


class Block(nn.Module):
    """One MetaFormer block over tokens ``(B, N, C)`` that stand in ``grid``."""

    def __init__(
        self,
        *,
        norm1: nn.Module,
        mixer: nn.Module,
        branch1: nn.Module,
        skip1: nn.Module,
        out_norm1: nn.Module,
        norm2: nn.Module,
        mlp: nn.Module,
        branch2: nn.Module,
        skip2: nn.Module,
        out_norm2: nn.Module,
    ) -> None:
        super().__init__()
        self.norm1, self.mixer, self.branch1, self.skip1, self.out_norm1 = (
            norm1,
            mixer,
            branch1,
            skip1,
            out_norm1,
        )
        self.norm2, self.mlp, self.branch2, self.skip2, self.out_norm2 = norm2, mlp, branch2, skip2, out_norm2

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape; ``mask`` (B, N) is true where a token is real."""
        x = self.out_norm1(self.skip1(x) + self.branch1(self.mixer(self.norm1(x), grid, mask)))
        x = self.out_norm2(self.skip2(x) + self.branch2(self.mlp(self.norm2(x))))
        return x


class MixingBlock(nn.Module):
    """A block without a channel MLP: only the first half of the formula."""

    def __init__(
        self,
        *,
        norm1: nn.Module,
        mixer: nn.Module,
        branch1: nn.Module,
        skip1: nn.Module,
        out_norm1: nn.Module,
    ) -> None:
        super().__init__()
        self.norm1, self.mixer, self.branch1, self.skip1, self.out_norm1 = (
            norm1,
            mixer,
            branch1,
            skip1,
            out_norm1,
        )

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape; ``mask`` (B, N) is true where a token is real."""
        return self.out_norm1(self.skip1(x) + self.branch1(self.mixer(self.norm1(x), grid, mask)))
