"""A PIL picture in, a normalised float32 tensor (C, H, W) out; the varying and cutting are timm's.

Sources of the recipes: "MetaFormer Is Actually What You Need for Vision", section 4.1, and "MetaFormer Baselines for
Vision", section 3.1, both trained with timm's transforms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import posterize
from torch import Tensor
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip

from ..errors import DataError
from ..recipe import Augmentation
from ..types import Preprocessing
from .decode import Mode, as_mode

Transform = Callable[[Image.Image], Tensor]


def evaluation_transform(preprocessing: Preprocessing, channels: int = 3) -> Transform:
    """Resize the short side, centre crop, normalise: timm's evaluation transform for this preprocessing.

    A picture of the input's size passes pixel by pixel where ``crop`` is 1. ``channels`` is what the model takes, 1 or
    3; pictures are turned to grey or colour as needed. Non-square inputs resize so that the crop just fits.
    """
    cut = create_transform(
        input_size=preprocessing.size,
        crop_pct=preprocessing.crop,
        interpolation=preprocessing.interpolation,
        **_normalisation(preprocessing, channels),
    )
    return Compose([InMode(_mode(channels)), cut])


def training_transform(preprocessing: Preprocessing, augmentation: Augmentation, channels: int = 3) -> Transform:
    """The policy of ``augmentation`` as a transform; all its draws come from python's, NumPy's and torch's generators.

    Raises ``DataError`` for an auto-augment policy that timm does not know.
    """
    if augmentation.policy == "none":
        return evaluation_transform(preprocessing.with_changes(crop=augmentation.crop or preprocessing.crop), channels)
    mode = _mode(channels)
    crop, colours, finish = _timm_parts(preprocessing, augmentation, channels)
    if augmentation.policy == "small":
        crop = _shift(preprocessing, augmentation)
    # RandAugment's fill and its saturation need three channels, so grey pictures pass through as grey RGB
    return Compose([InMode(mode), crop, InMode("RGB"), colours, InMode(mode), finish])


class InMode:
    """A step that turns a picture to ``L`` or ``RGB``."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode

    def __call__(self, image: Image.Image) -> Image.Image:
        """The picture in this step's mode."""
        return as_mode(image, self.mode)

    def __repr__(self) -> str:
        return f"InMode({self.mode!r})"


class Fitted:
    """A step that brings a picture of another size to (H, W): short side resized, centre cut, no resampling else."""

    def __init__(self, size: tuple[int, int], interpolation: str) -> None:
        self.size = size
        # the evaluation transform without its last two steps, which make the tensor and normalise it
        self.cut = Compose(create_transform(input_size=size, crop_pct=1.0, interpolation=interpolation).transforms[:-2])

    def __call__(self, image: Image.Image) -> Image.Image:
        """The picture at this step's size."""
        return image if image.size == self.size[::-1] else self.cut(image)


def _timm_parts(
    preprocessing: Preprocessing, augmentation: Augmentation, channels: int
) -> tuple[Transform, Transform, Transform]:
    """timm's training transform in three: geometry and flip, colours, tensor with erasing."""
    normalisation = _normalisation(preprocessing, channels)
    common: dict[str, Any] = {
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
        "separate": True,
    }
    try:
        crop, colours, _ = create_transform(**common, **_normalisation(preprocessing, 3))
    except (AssertionError, KeyError, ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"augmentation.auto_augment: timm cannot read {augmentation.auto_augment!r} ({error}). "
            "Expected such as rand-m9-mstd0.5-inc1, original-mstd0.5, augmix-m3-w3 or 3a"
        ) from None
    _let_posterise_reach_black(colours)
    finish = create_transform(**common | {"auto_augment": None}, **normalisation)[2]
    return crop, colours, finish


def _let_posterise_reach_black(colours: Transform) -> None:
    """Keeping 0 bits of a picture made it black when the published recipes were trained; Pillow now refuses it.

    RandAugment at magnitude 9 with noise draws it now and then.
    """
    for step in getattr(colours, "transforms", ()):
        chains = [getattr(step, "ops", ()), *getattr(step, "policy", ())]
        for operation in (operation for chain in chains for operation in chain):
            if operation.aug_fn is posterize:
                operation.aug_fn = _posterise


def _posterise(image: Image.Image, bits_to_keep: int, **arguments: Any) -> Image.Image:
    if bits_to_keep < 1:
        return Image.new(image.mode, image.size)
    return posterize(image, bits_to_keep, **arguments)


def _shift(preprocessing: Preprocessing, augmentation: Augmentation) -> Transform:
    """Pad by an eighth with black, cut at random, flip: for pictures already at the input's size."""
    height, width = preprocessing.size
    steps: list[Callable[..., Any]] = [
        Fitted(preprocessing.size, preprocessing.interpolation),
        RandomCrop(preprocessing.size, padding=[width // 8, height // 8]),
    ]
    if augmentation.hflip > 0:
        steps.append(RandomHorizontalFlip(augmentation.hflip))
    return Compose(steps)


def _mode(channels: int) -> Mode:
    if channels not in (1, 3):
        raise DataError(f"channels: pictures have 1 (grey) or 3 (colour), got {channels}")
    return "L" if channels == 1 else "RGB"


def _normalisation(preprocessing: Preprocessing, channels: int) -> dict[str, Any]:
    """Mean and std for this many channels; a colour model's are averaged for grey, a grey one's repeated for colour."""
    given = len(preprocessing.mean)
    if given not in (1, 3):
        raise DataError(f"preprocessing.mean: expected 1 or 3 values, got {given}")

    def fitted(values: tuple[float, ...]) -> tuple[float, ...]:
        if given == channels:
            return values
        return values * channels if given == 1 else (sum(values) / given,)

    return {"mean": fitted(preprocessing.mean), "std": fitted(preprocessing.std)}
