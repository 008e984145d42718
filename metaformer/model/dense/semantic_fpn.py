"""The head of Semantic FPN (Kirillov et al., "Panoptic Feature Pyramid Networks", section 3).

In: maps of 256 channels at strides that double. Out: scores for every place of the finest one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_WIDTH = 128


class ConvBlock(nn.Module):
    """A convolution of 3 × 3, batch norm, ReLU."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W)."""
        return F.relu(self.bn(self.conv(x)))


class SemanticHead(nn.Module):
    """Doubles every map to the size of the finest one, with a block before each doubling; then sums and classifies."""

    def __init__(self, in_channels: int, doublings: Sequence[int], num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_scale(in_channels, count) for count in doublings)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(HEAD_WIDTH, num_classes, kernel_size=1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, 256, H_i, W_i), finest first, to scores (B, K, H_0, W_0)."""
        levels = [scale(one) for scale, one in zip(self.scales, maps, strict=True)]
        size = levels[0].shape[2:]
        total = torch.stack([resize_map(level, size) for level in levels]).sum(0)
        return self.classify(self.dropout(total))


def resize_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """A map (B, C, H, W) resized bilinearly, with the centers of its cells as sample points."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def _scale(in_channels: int, doublings: int) -> nn.Sequential:
    """One block for the finest map, a block before each doubling for a coarser one."""
    layers: list[nn.Module] = [ConvBlock(in_channels, HEAD_WIDTH)]
    for i in range(doublings):
        if i:
            layers.append(ConvBlock(HEAD_WIDTH, HEAD_WIDTH))
        layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
