"""A PIL image in, a normalized float32 tensor (C, H, W) out; the varying and cutting are timm's.

"MetaFormer Is Actually What You Need for Vision" and "MetaFormer Baselines for Vision" both trained their ImageNet
models with these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import posterize
from torch import Tensor
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip

from ...errors import DataError
from ...recipe import Augmentation
from ...types import Preprocessing
from ..decode import Mode, as_mode

Transform = Callable[[Image.Image], Tensor]


def evaluation_transform(preprocessing: Preprocessing, channels: int = 3) -> Transform:
    """Resize the short side, center crop, normalize: timm's evaluation transform for this preprocessing.

    An image of the input's size passes pixel by pixel where ``crop`` is 1. ``channels`` is what the model takes, 1 or
    3; images are turned to gray or color as needed. Non-square inputs resize so that the crop just fits.
    """
    return Compose([*fixed_steps(preprocessing, channels), normalized(preprocessing, channels)])


def fixed_steps(preprocessing: Preprocessing, channels: int) -> list[Callable[[Image.Image], Image.Image]]:
    """The steps of ``evaluation_transform`` from any image to one of the input's size, still in bytes."""
    return [InMode(_mode(channels)), Cut(preprocessing.size, preprocessing.crop, preprocessing.interpolation)]


def training_transform(preprocessing: Preprocessing, augmentation: Augmentation, channels: int = 3) -> Transform:
    """The policy of ``augmentation`` as a transform; all its draws come from python's, NumPy's and torch's generators.

    Raises ``DataError`` for an auto-augment policy that timm does not know.
    """
    if augmentation.policy == "none":
        return evaluation_transform(training_cut(preprocessing, augmentation), channels)
    mode = _mode(channels)
    crop, colors, finish = _timm_parts(preprocessing, augmentation, channels)
    if augmentation.policy == "small":
        crop = _shift(preprocessing, augmentation)
    # RandAugment's fill and its saturation need three channels, so gray images pass through as gray RGB
    colored = [InMode("RGB"), colors, InMode(mode)] if colors.transforms else []
    return Compose([InMode(mode), crop, *colored, finish])


def training_cut(preprocessing: Preprocessing, augmentation: Augmentation) -> Preprocessing:
    """How training images reach the input's size under a policy that does so without drawing: ``none``, ``small``."""
    crop = 1.0 if augmentation.policy == "small" else augmentation.crop or preprocessing.crop
    return preprocessing.with_changes(crop=crop)


def normalized(preprocessing: Preprocessing, channels: int, device: torch.device | str = "cpu") -> Normalized:
    """The step from bytes to floats for this many channels."""
    return Normalized(_fitted(preprocessing.mean, channels), _fitted(preprocessing.std, channels), device)


def pixels_of(image: Image.Image) -> Tensor:
    """The bytes of an image, (C, H, W) uint8."""
    return torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1)


class InMode:
    """A step that turns an image to ``L`` or ``RGB``."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image in this step's mode."""
        return as_mode(image, self.mode)

    def __repr__(self) -> str:
        return f"InMode({self.mode!r})"


class Cut:
    """A step that resizes the short side and cuts the center to (H, W), as timm does at evaluation."""

    def __init__(self, size: tuple[int, int], crop: float, interpolation: str) -> None:
        self.untouched = size[::-1] if crop == 1 else None
        whole = create_transform(input_size=size, crop_pct=crop, interpolation=interpolation)
        self.steps = Compose(whole.transforms[:-2])  # without the two that make a tensor and normalize it

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image at this step's size; one that has it already passes pixel by pixel where nothing is cut off."""
        return image if image.size == self.untouched else self.steps(image)


class Normalized:
    """A step from bytes to float32 (C, H, W): torchvision's ToTensor and Normalize, bit for bit.

    As one step they take less than half the time on small images, where they are the largest part of reading.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device | str = "cpu") -> None:
        self.mean = torch.tensor(mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(std, device=device).view(-1, 1, 1)
        # a tensor and no number: by a number a GPU multiplies with the inverse, which gives other bits
        self.white = torch.full((1,), 255.0, device=device)

    def __call__(self, pixels: Image.Image | Tensor) -> Tensor:
        """An image, or bytes (..., C, H, W), to floats of that shape."""
        pixels = pixels if isinstance(pixels, Tensor) else pixels_of(pixels)
        floats = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return floats.div_(self.white).sub_(self.mean).div_(self.std)


def _timm_parts(
    preprocessing: Preprocessing, augmentation: Augmentation, channels: int
) -> tuple[Compose, Compose, Compose]:
    """timm's training transform in three: geometry and flip, colors, tensor with erasing."""
    arguments: dict[str, Any] = {
        "input_size": preprocessing.size,
        "is_training": True,
        "scale": augmentation.scale,
        "ratio": augmentation.ratio,
        "hflip": augmentation.hflip,
        "color_jitter": augmentation.color_jitter,
        "auto_augment": augmentation.auto_augment,
        "interpolation": augmentation.interpolation,
        "re_prob": augmentation.erase,
        "re_mode": "pixel",
        "mean": _fitted(preprocessing.mean, 3),  # what the color steps fill with
        "separate": True,
    }
    try:
        crop, colors, finish = create_transform(**arguments)
    except (AssertionError, KeyError, ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"augmentation.auto_augment: timm cannot read {augmentation.auto_augment!r} ({error}). "
            "Expected such as rand-m9-mstd0.5-inc1, original-mstd0.5, augmix-m3-w3 or 3a"
        ) from None
    _let_posterise_reach_black(colors)
    erasing = finish.transforms[2:]  # after making a tensor and normalizing it
    return crop, colors, Compose([normalized(preprocessing, channels), *erasing])


def _let_posterise_reach_black(colors: Compose) -> None:
    """Keeping 0 bits of an image made it black when the published recipes were trained; Pillow now refuses it.

    RandAugment at magnitude 9 with noise draws it now and then.
    """
    for step in colors.transforms:
        chains = [getattr(step, "ops", ()), *getattr(step, "policy", ())]
        for operation in (operation for chain in chains for operation in chain):
            if operation.aug_fn is posterize:
                operation.aug_fn = _posterise


def _posterise(image: Image.Image, bits_to_keep: int, **arguments: Any) -> Image.Image:
    if bits_to_keep < 1:
        return Image.new(image.mode, image.size)
    return posterize(image, bits_to_keep, **arguments)


def _shift(preprocessing: Preprocessing, augmentation: Augmentation) -> Compose:
    """Pad by an eighth with black, cut at random, flip: for images already at the input's size."""
    height, width = preprocessing.size
    steps: list[Callable[..., Any]] = [
        Cut(preprocessing.size, training_cut(preprocessing, augmentation).crop, preprocessing.interpolation),
        RandomCrop(preprocessing.size, padding=[width // 8, height // 8]),
    ]
    if augmentation.hflip > 0:
        steps.append(RandomHorizontalFlip(augmentation.hflip))
    return Compose(steps)


def _mode(channels: int) -> Mode:
    if channels not in (1, 3):
        raise DataError(f"channels: images have 1 (gray) or 3 (color), got {channels}")
    return "L" if channels == 1 else "RGB"


def _fitted(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Mean or std for this many channels: a color model's are averaged for gray, a gray one's repeated for color."""
    if len(values) not in (1, 3):
        raise DataError(f"preprocessing.mean: expected 1 or 3 values, got {len(values)}")
    if len(values) == channels:
        return values
    return values * channels if len(values) == 1 else (sum(values) / len(values),)
