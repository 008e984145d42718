"""A feature pyramid network on a backbone's pyramid: maps of one width that also contain the coarser ones.

In: a pyramid of maps. Out: named maps of ``WIDTH`` channels, finest first. Laterals of 1 × 1, a top-down path by the
nearest neighbor, a convolution of 3 × 3 behind it (Lin et al., "Feature Pyramid Networks for Object Detection").
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork

from .pyramid import Pyramid

WIDTH = 256


class NoExtraLevels(ExtraFPNBlock):
    """The pyramid as it is (Semantic FPN)."""

    def forward(self, x: list[Tensor], y: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """The network's maps, the backbone's, and the names, to the network's and the names."""
        return x, names


class PooledLevel(ExtraFPNBlock):
    """One coarser map: every second place of the last one (Mask R-CNN)."""

    def forward(self, x: list[Tensor], y: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """The network's maps, the backbone's, and the names, to all maps and their names."""
        return [*x, F.max_pool2d(x[-1], kernel_size=1, stride=2)], [*names, "pooled"]


class ConvLevels(ExtraFPNBlock):
    """Two coarser maps by convolutions, the first one on the backbone's last map (RetinaNet).

    There is no ReLU between the two as in torchvision's module: the published models have none.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, WIDTH, kernel_size=3, stride=2, padding=1)
        self.p7 = nn.Conv2d(WIDTH, WIDTH, kernel_size=3, stride=2, padding=1)

    def forward(self, x: list[Tensor], y: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """The network's maps, the backbone's, and the names, to all maps and their names."""
        p6 = self.p6(y[-1])
        return [*x, p6, self.p7(p6)], [*names, "p6", "p7"]


class PyramidNetwork(nn.Module):
    """A backbone's pyramid and the network on it: images to named maps of one width."""

    def __init__(self, body: Pyramid, extra: ExtraFPNBlock) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.channels, WIDTH, extra_blocks=extra)
        self.out_channels = WIDTH
        # mmdet's initialization; torchvision's own is uniform by fan-in.
        for part in self.fpn.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """(B, C, H, W) to maps (B, 256, H_i, W_i), named by their number from the finest."""
        maps = self.body(images)
        return self.fpn(OrderedDict((str(i), one) for i, one in enumerate(maps)))

    @property
    def extra_strides(self) -> list[int]:
        """Strides of the maps that are coarser than the backbone's."""
        count = {PooledLevel: 1, ConvLevels: 2}.get(type(self.fpn.extra_blocks), 0)
        return [self.body.strides[-1] * 2 ** (i + 1) for i in range(count)]

    @property
    def strides(self) -> list[int]:
        """Strides of all maps, finest first."""
        return [*self.body.strides, *self.extra_strides]
