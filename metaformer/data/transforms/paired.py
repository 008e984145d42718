"""An image and what is known of it, moved together: flipped, zoomed, cut, filled up, and at last made floats.

Every draw comes from torch's CPU generator. H and W are an image's rows and columns, G its objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ...recipe import Augmentation, Dense
from ...types import Objects, Preprocessing
from ..annotated import IGNORED
from .image import normalized, pixels_of

ALIGNED = 32
"""A segmenter's images have sides that are multiples of it: the coarsest map stands at this stride."""

_REDRAWN = 10  # times that a crop with too much of one class is drawn again
_LEAST = 1.0  # pixels of a box's sides that must be left of an object


class Sizes(Protocol):
    """What a ``DenseSpec`` says of the images that its model is to see."""

    @property
    def system(self) -> str:
        """``retinanet``, ``mask_rcnn`` or ``semantic_fpn``."""

    @property
    def short_side(self) -> int:
        """Pixels that the short side is brought to."""

    @property
    def long_side(self) -> int:
        """Most pixels of the long side."""

    @property
    def square(self) -> bool:
        """Whether both sides are brought to ``short_side``, whatever the shape."""


def fitted_size(height: int, width: int, sizes: Sizes, factor: float = 1.0) -> tuple[int, int]:
    """Height and width of an image brought to ``sizes`` times ``factor``, its shape kept unless it is to be square."""
    short, long = sizes.short_side * factor, sizes.long_side * factor
    if sizes.square:
        return max(1, round(short)), max(1, round(short))
    ratio = min(short / min(height, width), long / max(height, width))
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def segmenter_size(height: int, width: int, sizes: Sizes) -> tuple[int, int]:
    """Height and width that a segmenter sees at evaluation: as above, then up to multiples of 32."""
    high, wide = fitted_size(height, width, sizes)
    return ALIGNED * ceil(high / ALIGNED), ALIGNED * ceil(wide / ALIGNED)


def segmenter_input(image: Image.Image, sizes: Sizes, preprocessing: Preprocessing) -> Tensor:
    """An image in mode ``RGB`` as a segmenter is to see it at evaluation: (3, h, w) float32, normalized."""
    pixels = _resized(pixels_of(image), segmenter_size(image.height, image.width, sizes))
    return normalized(preprocessing, 3)(pixels)


def detector_input(image: Image.Image) -> Tensor:
    """An image in mode ``RGB`` as a detector takes it: (3, H, W) float32 in [0, 1], at its own size."""
    return pixels_of(image).to(torch.float32).div_(255)


@dataclass(frozen=True)
class DetectionTraining:
    """Varies an image and its objects on a canvas of the image's own size."""

    augmentation: Augmentation
    dense: Dense
    preprocessing: Preprocessing
    """Whose mean fills what a smaller image leaves free."""

    def __call__(self, image: Image.Image, objects: Objects) -> tuple[Tensor, Objects]:
        """(3, H, W) float32 in [0, 1], and the objects that are still in it."""
        pixels = pixels_of(image)
        if _drawn(self.augmentation.hflip):
            pixels, objects = flipped(pixels, objects)
        if self.dense.photometric:
            pixels = varied_colors(pixels)
        low, high = self.dense.scale
        if (low, high) != (1.0, 1.0):
            pixels, objects = zoomed(pixels, objects, _between(low, high), self.preprocessing.mean)
        return pixels.to(torch.float32).div_(255), objects


@dataclass(frozen=True)
class DetectionEvaluation:
    """An image as it is."""

    def __call__(self, image: Image.Image, objects: Objects) -> tuple[Tensor, Objects]:
        """(3, H, W) float32 in [0, 1], and its objects."""
        return detector_input(image), objects


@dataclass(frozen=True)
class SegmentationTraining:
    """Resizes by a random factor, cuts a square, flips it, varies its colors, and fills what is missing.

    "MetaFormer Is Actually What You Need for Vision", section 4.3, has factors from 0.5 to 2 and squares of 512.
    """

    sizes: Sizes
    augmentation: Augmentation
    dense: Dense
    preprocessing: Preprocessing

    def __call__(self, image: Image.Image, label_map: Tensor) -> tuple[Tensor, Tensor]:
        """(3, S, S) float32, normalized, and (S, S) int64 with 255 where nothing is known or no image is."""
        size = fitted_size(image.height, image.width, self.sizes, _between(*self.dense.scale))
        pixels = _resized(pixels_of(image), size)
        labels = _resized_labels(label_map.to(torch.uint8)[None], size)[0]
        side = self.side
        top, left = crop_corner(labels, side, self.dense.class_share)
        pixels, labels = pixels[:, top : top + side, left : left + side], labels[top : top + side, left : left + side]
        if _drawn(self.augmentation.hflip):
            pixels, labels = pixels.flip(-1), labels.flip(-1)
        if self.dense.photometric:
            pixels = varied_colors(pixels)
        normal = normalized(self.preprocessing, 3)(pixels)
        missing = [0, 0, side - labels.shape[1], side - labels.shape[0]]  # left, top, right, bottom
        # after normalizing, so that 0 is the mean's color
        return F.pad(normal, missing), F.pad(labels[None], missing, fill=IGNORED)[0].long()

    @property
    def side(self) -> int:
        """S, the side of the square in pixels."""
        return self.dense.crop or self.sizes.short_side


@dataclass(frozen=True)
class SegmentationEvaluation:
    """Resizes to what the model is to see; the label map keeps its size, for it is there that pixels are counted."""

    sizes: Sizes
    preprocessing: Preprocessing

    def __call__(self, image: Image.Image, label_map: Tensor) -> tuple[Tensor, Tensor]:
        """(3, h, w) float32, normalized, and (H, W) int64."""
        return segmenter_input(image, self.sizes, self.preprocessing), label_map


def flipped(pixels: Tensor, objects: Objects) -> tuple[Tensor, Objects]:
    """An image (C, H, W) and its objects, left for right."""
    return F.horizontal_flip(pixels), _moved(objects, _size(pixels), F.horizontal_flip)


def zoomed(pixels: Tensor, objects: Objects, factor: float, fill: tuple[float, ...]) -> tuple[Tensor, Objects]:
    """An image (3, H, W) of bytes and its objects, ``factor`` as large on the same canvas.

    A larger one is cut at a random place, and what is no longer in it is dropped; a smaller one is put at a random
    place on the color ``fill``, in [0, 1].
    """
    height, width = _size(pixels)
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    top, left = _place(abs(size[0] - height)), _place(abs(size[1] - width))
    if factor < 1:
        around = [left, top, width - size[1] - left, height - size[0] - top]  # left, top, right, bottom
        color = [round(255 * share) for share in fill]
        canvas = F.pad(_resized(pixels, size), around, fill=color)
        return canvas, _still_there(_moved(objects, (height, width), lambda it: F.pad(_of_size(it, size), around)))
    cut = (top, left, height, width)
    moved = _moved(objects, (height, width), lambda it: F.crop(_of_size(it, size), *cut))
    return F.crop(_resized(pixels, size), *cut), _still_there(moved)


def varied_colors(pixels: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue of (3, H, W) bytes varied, each in one image of two.

    As the recipe that Semantic FPN was trained with: up to 32 of 255 added, factors of 0.5 to 1.5 on contrast and
    saturation, the contrast first or last, up to a tenth of the circle of hues.
    """
    early = _drawn(0.5)
    if _drawn(0.5):
        pixels = (pixels.to(torch.float32) + _between(-32, 32)).clamp(0, 255).to(torch.uint8)
    contrast = _between(0.5, 1.5) if _drawn(0.5) else 1.0
    if early:
        pixels = F.adjust_brightness(pixels, contrast)  # a factor on the bytes: what that recipe calls contrast
    if _drawn(0.5):
        pixels = F.adjust_saturation(pixels, _between(0.5, 1.5))
    if _drawn(0.5):
        pixels = F.adjust_hue(pixels, _between(-0.1, 0.1))
    return pixels if early else F.adjust_brightness(pixels, contrast)


def crop_corner(labels: Tensor, side: int, class_share: float) -> tuple[int, int]:
    """Top and left of a random square in a label map (H, W), drawn again where one class has too large a share of it.

    Ignored pixels do not count. A label map smaller than the square is taken whole.
    """
    height, width = labels.shape
    for _ in range(1 + _REDRAWN):
        top, left = _place(max(height - side, 0)), _place(max(width - side, 0))
        counts = torch.bincount(labels[top : top + side, left : left + side].flatten(), minlength=IGNORED + 1)[:IGNORED]
        if class_share == 1 or (counts.sum() > 0 and counts.max() <= class_share * counts.sum()):
            break
    return top, left


def _size(pixels: Tensor) -> tuple[int, int]:
    return pixels.shape[-2], pixels.shape[-1]


def _moved(objects: Objects, size: tuple[int, int], step: Callable[[Any], Any]) -> Objects:
    """Objects whose boxes and masks went through a step of torchvision's, which knows by their type what they are."""
    boxes = tv_tensors.BoundingBoxes(objects["boxes"], format="XYXY", canvas_size=size)
    moved = {**objects, "boxes": step(boxes).as_subclass(Tensor)}
    if "masks" in objects:
        moved["masks"] = step(tv_tensors.Mask(objects["masks"])).as_subclass(Tensor)
    return moved


def _of_size(it: Any, size: tuple[int, int]) -> Any:
    """Boxes or masks of an image resized to this height and width."""
    if isinstance(it, tv_tensors.Mask):
        return tv_tensors.Mask(_resized_labels(it.as_subclass(Tensor), size))
    return F.resize(it, list(size))


def _still_there(objects: Objects) -> Objects:
    """Without the objects of which less than a pixel is left."""
    sides = objects["boxes"][:, 2:] - objects["boxes"][:, :2]
    kept = (sides >= _LEAST).all(1)
    if "masks" in objects:
        kept &= (objects["masks"].flatten(1) > 0).any(1)
    return {name: value if name == "image_id" else value[kept] for name, value in objects.items()}


def _resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return pixels if _size(pixels) == size else F.resize(pixels, list(size), InterpolationMode.BILINEAR, antialias=True)


def _resized_labels(layers: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks or label maps (G, H, W) to (G, h, w): the pixel nearest to each center."""
    if _size(layers) == size:
        return layers
    if not len(layers):  # torch resizes no empty batch
        return layers.new_zeros(0, *size)
    return F.resize(layers, list(size), InterpolationMode.NEAREST_EXACT)


def _drawn(probability: float) -> bool:
    return float(torch.rand(())) < probability


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _place(room: int) -> int:
    """A whole number from 0 to ``room``."""
    return int(torch.randint(room + 1, ()))
