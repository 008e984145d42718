"""Fourier mixing: no parameter, every token and every channel in every result."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...types import Grid
from ..tokens import refuse_padding


class Fourier(nn.Module):
    """The real part of the discrete Fourier transform over tokens and channels (FNet, section 3.2).

    As published it has no factor, so its result is √(N·C) times larger than its input, which the norms of a post-norm
    block take out again. ``orthonormal`` divides by it, for pre-norm blocks. It is computed in float32 for every input:
    half precision has no transform on the CPU and loses the small terms of the sum elsewhere.

    Padding cannot be left out, since the length is part of the transform; a mask with padding is refused. With
    ``read_padding`` it is mixed like any token, as in the published models, which read 512 tokens always. The results
    of such a model depend on the padded length.
    """

    def __init__(self, dim: int, *, orthonormal: bool = False, read_padding: bool = False) -> None:
        super().__init__()
        self.orthonormal, self.read_padding = orthonormal, read_padding

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        if not self.read_padding:
            refuse_padding(mask, "Fourier")
        factor = "ortho" if self.orthonormal else "backward"
        mixed = torch.fft.fft2(x.float(), dim=(1, 2), norm=factor).real
        return mixed.to(x.dtype).contiguous()

    def extra_repr(self) -> str:
        """The factor."""
        return f"orthonormal={self.orthonormal}"
