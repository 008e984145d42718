"""Layers on maps (B, C, H, W): what replaces the layers of a block where a graph engine reads the model.

Norms are written as sums and products, which engines join with the operations around them.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.layers import GroupNorm
from ..model.mixers.pooling import Pooling
from ..types import Grid
from .folded_modules import PooledResidual, ScaledPooling


class MapMixer(nn.Module):
    """A module of maps in the place of a token mixer: a map needs no grid."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.module(x)


class ChannelAffine(nn.Module):
    """Scale and shift of each channel; a folded norm may have neither."""

    def __init__(self, weight: Tensor | None, bias: Tensor | None, *, maps: bool) -> None:
        super().__init__()
        shape = (-1, 1, 1) if maps else (-1,)
        self.weight = None if weight is None else nn.Parameter(weight.view(shape))
        self.bias = None if bias is None else nn.Parameter(bias.view(shape))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; (B, N, C) if not built for maps."""
        x = x if self.weight is None else x * self.weight
        return x if self.bias is None else x + self.bias


class ExplicitGroupNorm(nn.Module):
    """Group norm of one group: two sums, for which an engine reads the map once each, then x · a + b.

    As one operation it keeps engines from joining its neighbors, and OpenVINO's int8 graphs may return another shape
    behind it.
    """

    def __init__(self, norm: GroupNorm, *, maps: bool) -> None:
        super().__init__()
        self.eps = norm.eps
        self.affine = ChannelAffine(norm.weight, norm.bias, maps=maps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; (B, N, C) if not built for maps."""
        mean, rstd = moments(x, self.eps)
        return self.affine(x * rstd - mean * rstd)


def moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation over each image, both with the axes of x: (B, 1, 1) or (B, 1, 1, 1).

    The variance is the mean of the squares minus the squared mean, so that no centered copy is written. This loses
    digits where the mean is many deviations from zero. No trained model here has such activations, and ``compile``
    compares every engine with the original.
    """
    axes = tuple(range(1, x.ndim))
    mean, count = x.mean(axes, keepdim=True), prod(x.shape[1:])
    variance = torch.linalg.vector_norm(x, 2, axes, keepdim=True).square() / count - mean.square()
    # Rounding may leave a variance slightly below zero.
    return mean, (variance.clamp(min=0) + eps).rsqrt()


class MapLayerNorm(nn.Module):
    """Layer norm over the channels of each place. PyTorch's needs channels last, so a graph would transpose twice."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.eps, self.affine = norm.eps, ChannelAffine(norm.weight, norm.bias, maps=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        centered = x - x.mean(1, keepdim=True)
        return self.affine(centered * (centered.square().mean(1, keepdim=True) + self.eps).rsqrt())


class MapPooling(nn.Module):
    """``Pooling`` and ``ScaledPooling`` on a map."""

    def __init__(self, mixer: Pooling | ScaledPooling) -> None:
        super().__init__()
        pooling = mixer.pooling if isinstance(mixer, ScaledPooling) else mixer
        self.kernel, self.subtract = pooling.kernel, pooling.subtract
        self.factor = nn.Parameter(mixer.factor[:, None, None]) if isinstance(mixer, ScaledPooling) else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        pooled = neighborhood(x, self.kernel)
        mixed = pooled - x if self.subtract else pooled
        return mixed if self.factor is None else mixed * self.factor


class MapPooledResidual(nn.Module):
    """``PooledResidual`` on a map, with ``moments``. ``torch.lerp`` would become a choice between two formulas."""

    def __init__(self, pooled: PooledResidual) -> None:
        super().__init__()
        self.factor = nn.Parameter(pooled.factor[:, None, None])
        self.eps, self.kernel = pooled.eps, pooled.kernel

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        _, rstd = moments(x, self.eps)
        return x + (self.factor * rstd) * (neighborhood(x, self.kernel) - x)


def neighborhood(x: Tensor, kernel: int) -> Tensor:
    """The average over each place's window; places outside the map do not count."""
    return F.avg_pool2d(x, kernel, stride=1, padding=kernel // 2, count_include_pad=False)


def pointwise(layer: nn.Linear) -> nn.Conv2d:
    """A linear layer over the channels as a 1 × 1 convolution."""
    conv = nn.Conv2d(layer.in_features, layer.out_features, 1, bias=layer.bias is not None)
    conv.weight = nn.Parameter(layer.weight[:, :, None, None], requires_grad=False)
    if layer.bias is not None:
        conv.bias = nn.Parameter(layer.bias, requires_grad=False)
    return conv
