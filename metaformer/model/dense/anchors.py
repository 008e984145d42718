"""Anchor boxes of exact sizes at fixed strides.

torchvision rounds anchors to whole pixels and derives strides from the padded image. The published heads were trained
with neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

RATIOS = (0.5, 1.0, 2.0)
"""Height over width."""
RETINANET_SCALES = tuple(4 * 2 ** (i / 3) for i in range(3))
"""Side over stride: three sizes an octave, from 4 strides on (Lin et al., "Focal Loss", section 4)."""
PROPOSAL_SCALES = (8.0,)
"""Side over stride in the region proposal network."""


class Anchors(AnchorGenerator):
    """Anchors at every place of every map, in mmdet's order: by ratio, then by scale."""

    def __init__(self, strides: Sequence[int], scales: Sequence[float]) -> None:
        self.strides = tuple(strides)
        super().__init__(tuple(tuple(scale * s for scale in scales) for s in strides), (RATIOS,) * len(strides))

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - torchvision's signature
    ) -> Tensor:
        """Boxes (A, 4) around the origin for sides ``scales`` in pixels."""
        sides = torch.tensor(scales, dtype=dtype, device=device)
        heights = torch.tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        width, height = (sides / heights[:, None]).flatten(), (sides * heights[:, None]).flatten()
        return torch.stack([-width, -height, width, height], dim=1) / 2

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Boxes (N, 4) for each image, in float32 also where the maps are in half precision."""
        device = feature_maps[0].device
        self.set_cell_anchors(torch.float32, device)
        boxes = [
            _at_every_place(cell, (one.shape[2], one.shape[3]), stride)
            for cell, one, stride in zip(self.cell_anchors, feature_maps, self.strides, strict=True)
        ]
        return [torch.cat(boxes)] * len(image_list.image_sizes)


def _at_every_place(cell: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
    """Boxes (A, 4) around the origin to boxes (H·W·A, 4) around every place of a map, row by row."""
    rows, columns = (torch.arange(side, device=cell.device, dtype=cell.dtype) * stride for side in grid)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (places + cell).reshape(-1, 4)
