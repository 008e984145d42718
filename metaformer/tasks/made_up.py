"""Made-up images for checks that need some and have none: always the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def smooth_noise(count: int, channels: int, size: tuple[int, int]) -> list[Tensor]:
    """``count`` images (C, H, W), normal noise on a coarse grid, enlarged: pure noise would be no test of convolutions,
    which average it away."""
    draws = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, channels, 8, 8, generator=draws)
    return list(F.interpolate(coarse, size=size, mode="bicubic"))
