"""A detector's preprocessing and postprocessing: images to a batch, boxes and masks back to the images' pixels.

In: images (C, H, W) in [0, 1] of any sizes and their objects. Out: one resized, normalized and padded batch; after
detection, boxes and masks in pixels of the original images.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from ...spec.dense import MULTIPLE, DenseSpec
from ...types import Preprocessing


class ImageTransform(GeneralizedRCNNTransform):
    """torchvision's resizing and padding; masks are pasted into the image with subpixel accuracy."""

    def __init__(self, spec: DenseSpec, preprocessing: Preprocessing, coarsest: int) -> None:
        super().__init__(
            spec.short_side,
            spec.long_side,
            list(preprocessing.mean),
            list(preprocessing.std),
            size_divisible=max(MULTIPLE, coarsest),
            fixed_size=spec.img_size if spec.square else None,
        )

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """torchvision's resizing of (C, H, W). An image so thin that a side would become 0 is widened first."""
        wide = self._widen_if_thin(image)
        if wide.shape == image.shape:
            return super().resize(image, target)
        if target is not None:
            before, after = list(image.shape[-2:]), list(wide.shape[-2:])
            target = {**target, "boxes": resize_boxes(target["boxes"], before, after)}
            if "masks" in target:
                target["masks"] = F.interpolate(target["masks"][:, None], size=after)[:, 0]
        return super().resize(wide, target)

    def _widen_if_thin(self, image: Tensor) -> Tensor:
        sides = image.shape[-2:]
        least = 1 if self.fixed_size else ceil(max(sides) / self.max_size)
        size = [max(side, least) for side in sides]
        return F.interpolate(image[None], size=size, mode="bilinear")[0] if size != list(sides) else image

    def postprocess(
        self,
        result: list[dict[str, Any]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Objects in pixels of the original images; masks become (G, H, W)."""
        if self.training:
            return result
        for found, seen, original in zip(result, image_shapes, original_image_sizes, strict=True):
            found["boxes"] = resize_boxes(found["boxes"], list(seen), list(original))
            if "masks" in found:
                found["masks"] = paste_masks(found["masks"][:, 0], found["boxes"], original)
        return result


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (G, M, M) of boxes (G, 4) as masks (G, H, W) of the image, bilinear, 0 outside the boxes."""
    height, width = size
    canvas = masks.new_zeros(len(masks), height, width)
    for layer, mask, box in zip(canvas, masks, boxes, strict=True):
        left, top, right, bottom = box.tolist()
        x0, y0 = max(int(left), 0), max(int(top), 0)
        x1, y1 = min(int(right) + 1, width), min(int(bottom) + 1, height)
        if x1 <= x0 or y1 <= y0:
            continue
        x = (torch.arange(x0, x1, device=mask.device) + 0.5 - left) / max(right - left, 1e-6)
        y = (torch.arange(y0, y1, device=mask.device) + 0.5 - top) / max(bottom - top, 1e-6)
        rows, columns = torch.meshgrid(2 * y - 1, 2 * x - 1, indexing="ij")
        grid = torch.stack([columns, rows], dim=-1)[None]
        # grid_sample takes places in [-1, 1]; those beyond a mask's border get zeros.
        layer[y0:y1, x0:x1] = F.grid_sample(mask[None, None], grid.to(mask.dtype), align_corners=False)[0, 0]
    return canvas
