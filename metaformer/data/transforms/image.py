"""A PIL image in, a normalized float32 tensor (C, H, W) out; augmentation, resizing and cropping are timm's.

"MetaFormer Is Actually What You Need for Vision" and "MetaFormer Baselines for Vision" both trained their ImageNet
models with these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from ..dataset import Sample
from ..decode import Mode, as_mode

ImageTransform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class OnInput:
    """A transform of samples: ``transform`` for the image, and the target as it is."""

    transform: ImageTransform

    def __call__(self, sample: Sample[Any]) -> tuple[Tensor, Any]:
        """The model's input and the target."""
        return self.transform(sample.input), sample.target


def evaluation_transform(preprocessing: Preprocessing, channels: int = 3) -> ImageTransform:
    """Resize the short side, center crop, normalize: timm's evaluation transform for this preprocessing.

    Where ``crop`` is 1, an image of the input's size keeps its pixels. ``channels`` is what the model takes, 1 or 3;
    images are converted to gray or color as needed. Non-square inputs are resized so that the crop just fits.
    """
    return Compose([*resize_steps(preprocessing, channels), Normalize.of(preprocessing, channels)])


def resize_steps(preprocessing: Preprocessing, channels: int) -> list[Callable[[Image.Image], Image.Image]]:
    """The steps of ``evaluation_transform`` from any image to one of the input's size, still in bytes."""
    return [ConvertMode(_mode(channels)), ResizeAndCrop.of(preprocessing)]


def training_transform(preprocessing: Preprocessing, augmentation: Augmentation, channels: int = 3) -> ImageTransform:
    """The policy of ``augmentation`` as a transform, with draws from Python's, NumPy's and torch's global generators.

    Raises ``DataError`` for an auto-augment policy that timm does not know.
    """
    if augmentation.policy == "none":
        return evaluation_transform(training_preprocessing(preprocessing, augmentation), channels)
    mode = _mode(channels)
    crop, colors, finish = _timm_parts(preprocessing, augmentation, channels)
    if augmentation.policy == "small":
        crop = _shift(preprocessing, augmentation)
    # RandAugment's fill color and its saturation need three channels, so gray images pass through as gray RGB
    colored = [ConvertMode("RGB"), colors, ConvertMode(mode)] if colors.transforms else []
    return Compose([ConvertMode(mode), crop, *colored, finish])


def training_preprocessing(preprocessing: Preprocessing, augmentation: Augmentation) -> Preprocessing:
    """How training images get the input's size under the policies without a random crop: ``none`` and ``small``."""
    crop = 1.0 if augmentation.policy == "small" else augmentation.crop or preprocessing.crop
    return preprocessing.with_changes(crop=crop)


def to_bytes(image: Image.Image) -> Tensor:
    """The bytes of an image, (C, H, W) uint8."""
    return torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1)


class ConvertMode:
    """A step that converts an image to ``L`` or ``RGB``."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image in this step's mode."""
        return as_mode(image, self.mode)

    def __repr__(self) -> str:
        return f"ConvertMode({self.mode!r})"


class ResizeAndCrop:
    """A step that resizes the short side and crops the center to (H, W), as timm does at evaluation."""

    def __init__(self, size: tuple[int, int], crop: float, interpolation: str) -> None:
        # (width, height) as Pillow has it; timm's steps would leave such an image as it is and only take time
        self.unchanged = size[::-1] if crop == 1 else None
        whole = create_transform(input_size=size, crop_pct=crop, interpolation=interpolation)
        self.steps = Compose(whole.transforms[:-2])  # without ToTensor and Normalize

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> ResizeAndCrop:
        """The step of a model's preprocessing."""
        return cls(preprocessing.size, preprocessing.crop, preprocessing.interpolation)

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image at this step's size; unchanged if it has that size already and ``crop`` is 1."""
        return image if image.size == self.unchanged else self.steps(image)


class Normalize:
    """A step from bytes to float32 (C, H, W): torchvision's ToTensor and Normalize, bit for bit.

    As one step they take less than half the time on small images, where they are the largest part of loading.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device | str = "cpu") -> None:
        self.mean = torch.tensor(mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(std, device=device).view(-1, 1, 1)
        # a tensor, because a GPU divides by a Python number by multiplying with its inverse, which gives other bits
        self.white = torch.full((1,), 255.0, device=device)

    @classmethod
    def of(cls, preprocessing: Preprocessing, channels: int, device: torch.device | str = "cpu") -> Normalize:
        """The step of a model's preprocessing for this many channels."""
        mean, std = (_per_channel(values, channels) for values in (preprocessing.mean, preprocessing.std))
        return cls(mean, std, device)

    def __call__(self, pixels: Image.Image | Tensor) -> Tensor:
        """An image, or bytes (..., C, H, W), as floats of that shape."""
        pixels = pixels if isinstance(pixels, Tensor) else to_bytes(pixels)
        # to_bytes gives a permuted view, whose strides the floats would inherit
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
        "mean": _per_channel(preprocessing.mean, 3),  # the fill color of the color steps, which see RGB
        "separate": True,
    }
    try:
        crop, colors, finish = create_transform(**arguments)
    except (AssertionError, KeyError, ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"augmentation.auto_augment: timm cannot read {augmentation.auto_augment!r} ({error}). "
            "Expected such as rand-m9-mstd0.5-inc1, original-mstd0.5, augmix-m3-w3 or 3a"
        ) from None
    allow_posterize_to_black(colors)
    erasing = finish.transforms[2:]  # after ToTensor and Normalize, which Normalize.of replaces
    return crop, colors, Compose([Normalize.of(preprocessing, channels), *erasing])


def allow_posterize_to_black(colors: Compose) -> None:
    """Let timm's posterize keep 0 bits of a color, in place.

    That gave a black image when the published recipes were trained, and RandAugment at magnitude 9 with noise draws it
    now and then; Pillow 13 raises an error.
    """
    for step in colors.transforms:
        chains = [getattr(step, "ops", ()), *getattr(step, "policy", ())]
        for operation in (operation for chain in chains for operation in chain):
            if operation.aug_fn is posterize:
                operation.aug_fn = _posterize_or_black


def _posterize_or_black(image: Image.Image, bits_to_keep: int, **arguments: Any) -> Image.Image:
    if bits_to_keep < 1:
        return Image.new(image.mode, image.size)
    return posterize(image, bits_to_keep, **arguments)


def _shift(preprocessing: Preprocessing, augmentation: Augmentation) -> Compose:
    """Pad by an eighth with black, crop at random, flip: for images already at the input's size."""
    height, width = preprocessing.size
    steps: list[Callable[..., Any]] = [
        ResizeAndCrop.of(training_preprocessing(preprocessing, augmentation)),
        RandomCrop(preprocessing.size, padding=[width // 8, height // 8]),
    ]
    if augmentation.hflip > 0:
        steps.append(RandomHorizontalFlip(augmentation.hflip))
    return Compose(steps)


def _mode(channels: int) -> Mode:
    if channels not in (1, 3):
        raise DataError(f"channels: images have 1 (gray) or 3 (color), got {channels}")
    return "L" if channels == 1 else "RGB"


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Mean or std for this many channels: a color model's are averaged for gray, a gray one's repeated for color."""
    if len(values) not in (1, 3):
        raise DataError(f"preprocessing.mean: expected 1 or 3 values, got {len(values)}")
    if len(values) == channels:
        return values
    return values * channels if len(values) == 1 else (sum(values) / len(values),)
