"""Transforms that change an image together with its objects or its label map: flip, zoom, crop, pad, convert to floats.

Every draw comes from torch's CPU generator. H and W are an image's rows and columns, G the number of its objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ...recipe import Augmentation, Dense
from ...types import IGNORED, Objects, Preprocessing
from ..dataset import Sample
from .image import Normalize, to_bytes

ALIGNMENT = 32
"""The sides of a segmenter's images are multiples of this: the stride of its coarsest feature map."""

_CROP_ATTEMPTS = 10  # further crops after one with too much of one class, as in mmsegmentation's RandomCrop
_LEAST_SIDE = 1.0  # pixels; less is not visible, and box regression takes the logarithm of the sides


class ImageSizes(Protocol):
    """What a ``DenseSpec`` says of the size of its images."""

    @property
    def short_side(self) -> int:
        """Pixels that the short side is resized to."""

    @property
    def long_side(self) -> int:
        """Most pixels of the long side."""

    @property
    def square(self) -> bool:
        """Whether both sides are resized to ``short_side``, whatever the aspect ratio."""


def resized_size(height: int, width: int, sizes: ImageSizes, factor: float = 1.0) -> tuple[int, int]:
    """Height and width of an image resized to ``sizes`` times ``factor``, with its aspect ratio unless square."""
    short, long = sizes.short_side * factor, sizes.long_side * factor
    if sizes.square:
        return max(1, round(short)), max(1, round(short))
    ratio = min(short / min(height, width), long / max(height, width))
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def aligned_size(height: int, width: int, sizes: ImageSizes) -> tuple[int, int]:
    """Height and width that a segmenter sees at evaluation: as above, then up to multiples of 32."""
    high, wide = resized_size(height, width, sizes)
    return ALIGNMENT * ceil(high / ALIGNMENT), ALIGNMENT * ceil(wide / ALIGNMENT)


def segmenter_input(image: Image.Image, sizes: ImageSizes, preprocessing: Preprocessing) -> Tensor:
    """An ``RGB`` image as a segmenter takes it at evaluation: (3, h, w) float32, normalized."""
    pixels = _resize(to_bytes(image), aligned_size(image.height, image.width, sizes))
    return Normalize.of(preprocessing, 3)(pixels)


def detector_input(image: Image.Image) -> Tensor:
    """An ``RGB`` image as a detector takes it: (3, H, W) float32 in [0, 1], at its own size."""
    return to_bytes(image).to(torch.float32).div_(255)


@dataclass(frozen=True)
class ObjectTrainTransform:
    """Augments an image and its objects on a canvas of the image's own size."""

    augmentation: Augmentation
    dense: Dense
    preprocessing: Preprocessing
    """Its mean fills the canvas around an image that was zoomed out."""

    def __call__(self, sample: Sample[Objects]) -> tuple[Tensor, Objects]:
        """(3, H, W) float32 in [0, 1], and the objects that are still visible."""
        pixels, objects = to_bytes(sample.input), sample.target
        if _happens(self.augmentation.hflip):
            pixels, objects = flip(pixels, objects)
        if self.dense.photometric:
            pixels = vary_colors(pixels)
        low, high = self.dense.scale
        if (low, high) != (1.0, 1.0):
            pixels, objects = zoom(pixels, objects, _uniform(low, high), self.preprocessing.mean)
        return pixels.to(torch.float32).div_(255), objects


@dataclass(frozen=True)
class ObjectEvalTransform:
    """An image and its objects as they are; a detector resizes them itself."""

    def __call__(self, sample: Sample[Objects]) -> tuple[Tensor, Objects]:
        """(3, H, W) float32 in [0, 1], and its objects."""
        return detector_input(sample.input), sample.target


@dataclass(frozen=True)
class LabelMapTrainTransform:
    """Resizes by a random factor, crops a square, flips it, varies its colors, and pads what is missing.

    "MetaFormer Is Actually What You Need for Vision", section 4.3, has factors from 0.5 to 2 and squares of 512.
    """

    sizes: ImageSizes
    augmentation: Augmentation
    dense: Dense
    preprocessing: Preprocessing

    def __call__(self, sample: Sample[Tensor]) -> tuple[Tensor, Tensor]:
        """(3, S, S) float32, normalized, and (S, S) int64 with 255 where the class is unknown or no image is."""
        image, label_map = sample
        size = resized_size(image.height, image.width, self.sizes, _uniform(*self.dense.scale))
        pixels = _resize(to_bytes(image), size)
        labels = _resize_labels(label_map.to(torch.uint8)[None], size)[0]  # torch resizes bytes faster than int64
        side = self.side
        top, left = crop_corner(labels, side, self.dense.class_share)
        pixels, labels = pixels[:, top : top + side, left : left + side], labels[top : top + side, left : left + side]
        if _happens(self.augmentation.hflip):
            pixels, labels = pixels.flip(-1), labels.flip(-1)
        if self.dense.photometric:
            pixels = vary_colors(pixels)
        normal = Normalize.of(self.preprocessing, 3)(pixels)
        missing = [0, 0, side - labels.shape[1], side - labels.shape[0]]  # left, top, right, bottom
        # after normalizing, so that 0 is the mean's color
        return F.pad(normal, missing), F.pad(labels[None], missing, fill=IGNORED)[0].long()

    @property
    def side(self) -> int:
        """S, the side of the square in pixels."""
        return self.dense.crop or self.sizes.short_side


@dataclass(frozen=True)
class LabelMapEvalTransform:
    """Resizes the image to the size the model takes; the label map keeps its size, because metrics count its pixels."""

    sizes: ImageSizes
    preprocessing: Preprocessing

    def __call__(self, sample: Sample[Tensor]) -> tuple[Tensor, Tensor]:
        """(3, h, w) float32, normalized, and (H, W) int64."""
        return segmenter_input(sample.input, self.sizes, self.preprocessing), sample.target


def flip(pixels: Tensor, objects: Objects) -> tuple[Tensor, Objects]:
    """An image (C, H, W) and its objects, mirrored left to right."""
    return F.horizontal_flip(pixels), _map_geometry(objects, _size(pixels), F.horizontal_flip)


def zoom(pixels: Tensor, objects: Objects, factor: float, fill: tuple[float, ...]) -> tuple[Tensor, Objects]:
    """An image (3, H, W) of bytes and its objects, resized by ``factor`` on a canvas of the same size.

    A larger image is cropped at a random place, and objects outside of the crop are dropped; a smaller one is put at a
    random place on the color ``fill``, in [0, 1].
    """
    height, width = _size(pixels)
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    top, left = _offset(abs(size[0] - height)), _offset(abs(size[1] - width))
    if factor < 1:
        around = [left, top, width - size[1] - left, height - size[0] - top]  # left, top, right, bottom
        color = [round(255 * share) for share in fill]
        canvas = F.pad(_resize(pixels, size), around, fill=color)
        moved = _map_geometry(objects, (height, width), lambda part: F.pad(_resize_geometry(part, size), around))
    else:
        window = (top, left, height, width)
        canvas = F.crop(_resize(pixels, size), *window)
        moved = _map_geometry(objects, (height, width), lambda part: F.crop(_resize_geometry(part, size), *window))
    return canvas, _drop_invisible(moved)


def vary_colors(pixels: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue of (3, H, W) bytes varied, each with a probability of one half.

    The photometric distortion that Semantic FPN was trained with (SSD's): up to 32 of 255 added, factors of 0.5 to 1.5
    on contrast and saturation, the contrast first or last, hues turned by up to a tenth of the circle.
    """
    early = _happens(0.5)
    if _happens(0.5):
        pixels = (pixels.to(torch.float32) + _uniform(-32, 32)).clamp(0, 255).to(torch.uint8)
    contrast = _uniform(0.5, 1.5) if _happens(0.5) else 1.0
    if early:
        pixels = F.adjust_brightness(pixels, contrast)  # a factor on the bytes: what that recipe calls contrast
    if _happens(0.5):
        pixels = F.adjust_saturation(pixels, _uniform(0.5, 1.5))
    if _happens(0.5):
        pixels = F.adjust_hue(pixels, _uniform(-0.1, 0.1))
    return pixels if early else F.adjust_brightness(pixels, contrast)


def crop_corner(labels: Tensor, side: int, class_share: float) -> tuple[int, int]:
    """Top and left of a random square in a label map (H, W), drawn again where one class has more than ``class_share``.

    Ignored pixels do not count. A label map smaller than the square is taken whole.
    """
    height, width = labels.shape
    for _ in range(1 + _CROP_ATTEMPTS):
        top, left = _offset(max(height - side, 0)), _offset(max(width - side, 0))
        counts = torch.bincount(labels[top : top + side, left : left + side].flatten(), minlength=IGNORED + 1)[:IGNORED]
        if class_share == 1 or (counts.sum() > 0 and counts.max() <= class_share * counts.sum()):
            break
    return top, left


def _size(pixels: Tensor) -> tuple[int, int]:
    return pixels.shape[-2], pixels.shape[-1]


def _map_geometry(objects: Objects, size: tuple[int, int], step: Callable[[Tensor], Tensor]) -> Objects:
    """Objects with boxes and masks changed by a step of torchvision's functions, which tell the two by their types."""
    boxes = tv_tensors.BoundingBoxes(objects["boxes"], format="XYXY", canvas_size=size)
    moved = {**objects, "boxes": step(boxes).as_subclass(Tensor)}
    if "masks" in objects:
        moved["masks"] = step(tv_tensors.Mask(objects["masks"])).as_subclass(Tensor)
    return moved


def _resize_geometry(part: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes or masks of an image resized to this height and width."""
    if isinstance(part, tv_tensors.Mask):
        return tv_tensors.Mask(_resize_labels(part.as_subclass(Tensor), size))
    return F.resize(part, list(size))


def _drop_invisible(objects: Objects) -> Objects:
    """Without the objects of which less than a pixel is left."""
    sides = objects["boxes"][:, 2:] - objects["boxes"][:, :2]
    kept = (sides >= _LEAST_SIDE).all(1)
    if "masks" in objects:
        kept &= (objects["masks"].flatten(1) > 0).any(1)
    return {name: value if name == "image_id" else value[kept] for name, value in objects.items()}


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return pixels if _size(pixels) == size else F.resize(pixels, list(size), InterpolationMode.BILINEAR, antialias=True)


def _resize_labels(layers: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks or label maps (G, H, W) to (G, h, w): the pixel nearest to each center, as labels cannot be averaged."""
    if _size(layers) == size:
        return layers
    if not len(layers):  # torch cannot resize an empty batch
        return layers.new_zeros(0, *size)
    # NEAREST takes the pixel at the upper left instead (pytorch issue 34808), half a pixel off the resized image
    return F.resize(layers, list(size), InterpolationMode.NEAREST_EXACT)


def _happens(probability: float) -> bool:
    return float(torch.rand(())) < probability


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _offset(room: int) -> int:
    """A random whole number from 0 to ``room``."""
    return int(torch.randint(room + 1, ()))
