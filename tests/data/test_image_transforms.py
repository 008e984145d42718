"""Transforms: evaluation is timm's, training keeps shape and scale for gray and color, square or not."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import AugmentOp
from tiny_images import noise

from metaformer.data.loading.seeding import seed_sample
from metaformer.data.transforms.image import evaluation_transform, training_transform
from metaformer.errors import DataError
from metaformer.recipe import Augmentation
from metaformer.types import Preprocessing

GRAY = {"mean": (0.5,), "std": (0.25,)}


@pytest.mark.parametrize("size", [(24, 24), (16, 32), (33, 20)])
@pytest.mark.parametrize("crop", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_evaluation_is_timms(size: tuple[int, int], crop: float, interpolation: str) -> None:
    preprocessing = Preprocessing(size=size, crop=crop, interpolation=interpolation)
    theirs = create_transform(
        (3, *size), crop_pct=crop, interpolation=interpolation, mean=preprocessing.mean, std=preprocessing.std
    )
    image = noise(1, 45, 61)
    ours = evaluation_transform(preprocessing)(image)
    assert ours.shape == (3, *size)
    assert torch.equal(ours, theirs(image))


def test_the_short_side_is_resized_as_preprocessing_says() -> None:
    preprocessing = Preprocessing(size=(20, 20), crop=0.9)
    resized = noise(2, 40, 60).resize((round(60 * 22 / 40), preprocessing.resize), Image.Resampling.BICUBIC)
    assert preprocessing.resize == 22
    expected = evaluation_transform(Preprocessing(size=(20, 20), crop=0.9))(resized)
    assert torch.equal(evaluation_transform(preprocessing)(noise(2, 40, 60)), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (12, 10)])
def test_an_image_of_the_input_size_keeps_its_pixels(channels: int, size: tuple[int, int]) -> None:
    image = noise(3, *size, channels)
    preprocessing = Preprocessing(size=size, crop=1.0, **GRAY)
    pixels = torch.from_numpy(np.array(image)).reshape(*size, channels).permute(2, 0, 1)
    expected = (pixels.float() / 255 - 0.5) / 0.25
    assert torch.equal(evaluation_transform(preprocessing, channels)(image), expected)
    unchanged = Augmentation(policy="none", hflip=1.0, erase=1.0, auto_augment="rand-m9-mstd0.5-inc1")
    assert torch.equal(training_transform(preprocessing, unchanged, channels)(image), expected)


@pytest.mark.parametrize("policy", ["imagenet", "small"])
@pytest.mark.parametrize("auto_augment", [None, "rand-m9-mstd0.5-inc1", "original-mstd0.5", "augmix-m3-w3", "3a"])
@pytest.mark.parametrize("channels", [1, 3])
def test_training_keeps_shape_type_and_survives_pickling(policy: str, auto_augment: str | None, channels: int) -> None:
    augmentation = Augmentation(policy=policy, auto_augment=auto_augment, erase=0.5, color_jitter=0.4)
    transform = training_transform(Preprocessing(size=(16, 20), crop=0.9), augmentation, channels)
    transform = pickle.loads(pickle.dumps(transform))
    for seed, image in enumerate([noise(1, 30, 30), noise(2, 16, 20, 1), noise(3, 9, 50), Image.new("L", (20, 16))]):
        seed_sample(seed, 0, 0)
        tensor = transform(image)
        assert tensor.shape == (channels, 16, 20)
        assert tensor.dtype == torch.float32
        assert torch.isfinite(tensor).all()


def test_for_color_images_the_imagenet_policy_is_timms() -> None:
    preprocessing = Preprocessing(size=(16, 16))
    augmentation = Augmentation(auto_augment="rand-m7-mstd0.5-inc1", erase=0.25, color_jitter=0.3)
    theirs = create_transform(
        16, is_training=True, auto_augment="rand-m7-mstd0.5-inc1", re_prob=0.25, re_mode="pixel", interpolation="random"
    )
    ours = training_transform(preprocessing, augmentation)
    image = noise(4, 40, 40)
    for index in range(30):
        seed_sample(0, 0, index)
        expected = theirs(image)
        seed_sample(0, 0, index)
        assert torch.equal(ours(image), expected)


def test_posterize_to_no_bits_is_black() -> None:
    transform = training_transform(Preprocessing(size=(8, 8)), Augmentation(auto_augment="rand-m10-inc1"))
    operations = [step for part in transform.transforms for step in _operations(part)]
    posterise = next(one for one in operations if one.name == "PosterizeIncreasing")
    posterise.prob = 1.0
    assert np.asarray(posterise(noise(1))).max() == 0


def _operations(step: object) -> list[AugmentOp]:
    inner = getattr(step, "transforms", [])
    return [*getattr(step, "ops", []), *(found for one in inner for found in _operations(one))]


def test_small_shifts_by_an_eighth_and_flips() -> None:
    image = noise(5, 16, 16, 1)
    preprocessing = Preprocessing(size=(16, 16), crop=1.0, mean=(0.0,), std=(1.0,))
    whole = np.pad(np.asarray(image), 2)
    places = {
        whole[y : y + 16, x : x + 16][:, ::flip].tobytes() for y in range(5) for x in range(5) for flip in (1, -1)
    }
    transform = training_transform(preprocessing, Augmentation(policy="small", hflip=0.5), 1)
    seen = set()
    for index in range(200):
        seed_sample(0, 0, index)
        seen.add((transform(image)[0] * 255).round().byte().numpy().tobytes())
    assert seen <= places
    assert len(seen) > 40


def test_flips_can_be_turned_off() -> None:
    preprocessing = Preprocessing(size=(6, 6), crop=1.0, mean=(0.0,), std=(1.0,))
    transform = training_transform(preprocessing, Augmentation(policy="small", hflip=0.0), 1)
    ramp = Image.fromarray(np.tile(np.arange(6, dtype=np.uint8) * 40 + 10, (6, 1)))
    rows = {tuple(transform(ramp)[0, 3].tolist()) for _ in range(10)}
    assert rows == {tuple(np.float32(np.arange(6) * 40 + 10) / np.float32(255))}


def test_gray_models_take_color_images_and_color_models_gray_ones() -> None:
    color, gray = noise(6, 8, 8), noise(6, 8, 8, 1)
    one = evaluation_transform(Preprocessing(size=(8, 8), crop=1.0), channels=1)
    assert one(color).shape == (1, 8, 8)
    three = evaluation_transform(Preprocessing(size=(8, 8), crop=1.0, **GRAY), channels=3)(gray)
    assert torch.equal(three[0], three[2])
    with pytest.raises(DataError, match=r"1 .gray. or 3 .color., got 4"):
        evaluation_transform(Preprocessing(), channels=4)
    with pytest.raises(DataError, match=r"preprocessing.mean: expected 1 or 3 values, got 2"):
        evaluation_transform(Preprocessing(mean=(0.5, 0.5), std=(1.0, 1.0)))


@pytest.mark.parametrize("policy", ["imagenet", "small"])
@pytest.mark.parametrize("name", ["rand-m9-nonsense1", "originall"])
def test_an_unknown_policy_is_named(policy: str, name: str) -> None:
    with pytest.raises(DataError, match=f"augmentation.auto_augment: timm cannot read '{name}'"):
        training_transform(Preprocessing(), Augmentation(policy=policy, auto_augment=name))


def test_every_sample_has_draws_of_its_own() -> None:
    def draws(*position: int) -> tuple[float, ...]:
        seed_sample(*position)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    positions = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (-1, 0, 0)]
    assert len({draws(*position) for position in positions}) == len(positions)
    assert draws(3, 4, 5) == draws(3, 4, 5)
