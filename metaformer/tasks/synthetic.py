"""Artificial images for checks without data, such as comparing an export with its model; always the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def smooth_noise(count: int, channels: int, size: tuple[int, int]) -> list[Tensor]:
    """``count`` images (C, H, W): Gaussian noise on a grid of 8 × 8, enlarged."""
    generator = torch.Generator().manual_seed(0)  # of its own, so that PyTorch's global state does not change
    # smooth, because convolutions and pooling average white noise away, and all outputs would look alike
    coarse = torch.randn(count, channels, 8, 8, generator=generator)
    return list(F.interpolate(coarse, size=size, mode="bicubic"))
