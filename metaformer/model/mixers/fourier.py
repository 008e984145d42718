"""Fourier mixing: no parameter, every token and every channel in every result."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...types import Grid


class Fourier(nn.Module):
    """The real part of the discrete Fourier transform over tokens and channels (FNet, section 3.2).

    As published it has no factor, so its result is √(N·C) times larger than its input: right between the norms of a
    post-norm block. ``orthonormal`` divides by that, for pre-norm frames. Computed in float32 whatever the input is:
    half precision has no transform on the CPU and loses the sum's small terms elsewhere. Padding tokens cannot be
    masked: they change every result.
    """

    def __init__(self, dim: int, *, orthonormal: bool = False) -> None:
        super().__init__()
        self.orthonormal = orthonormal

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        factor = "ortho" if self.orthonormal else "backward"
        mixed = torch.fft.fft2(x.float(), dim=(1, 2), norm=factor).real
        return mixed.to(x.dtype).contiguous()

    def extra_repr(self) -> str:
        """The factor."""
        return f"orthonormal={self.orthonormal}"
