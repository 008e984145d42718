"""Mixup and CutMix: targets stay probabilities, images are weighted as the targets say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metaformer.data.transforms.mixup import Mixup
from metaformer.recipe import Augmentation
from metaformer.types import Batch

MIXUP, CUTMIX = Augmentation(mixup=0.8), Augmentation(cutmix=1.0)


def batch(count: int) -> Batch:
    """Image i shows the number i and is of class i."""
    return Batch(torch.arange(count).float().reshape(-1, 1, 1, 1).repeat(1, 2, 8, 8), torch.arange(count))


def mixed(augmentation: Augmentation, count: int, smoothing: float = 0.0, seed: int = 0) -> Batch:
    np.random.seed(seed)
    return Mixup(augmentation, num_classes=count, label_smoothing=smoothing)(batch(count))


@pytest.mark.parametrize("augmentation", [MIXUP, CUTMIX, Augmentation(mixup=0.8, cutmix=1.0), Augmentation()])
@pytest.mark.parametrize("count", [1, 2, 7, 8])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_targets_are_probabilities(augmentation: Augmentation, count: int, smoothing: float) -> None:
    for seed in range(5):
        result = mixed(augmentation, count, smoothing, seed)
        assert result.inputs.shape == (count, 2, 8, 8)
        assert result.targets.shape == (count, count)
        assert torch.allclose(result.targets.sum(1), torch.ones(count))
        assert (result.targets >= 0).all()


@pytest.mark.parametrize("augmentation", [MIXUP, CUTMIX])
@pytest.mark.parametrize("count", [8, 9])
def test_images_are_mixed_in_the_shares_of_the_targets(augmentation: Augmentation, count: int) -> None:
    for seed in range(5):
        result = mixed(augmentation, count, seed=seed)
        expected = result.targets @ torch.arange(count).float()
        assert torch.allclose(result.inputs.mean((1, 2, 3)), expected, atol=1e-4)


def test_the_last_image_of_an_odd_batch_is_not_mixed() -> None:
    result = mixed(MIXUP, 5, smoothing=0.1)
    assert torch.equal(result.inputs[4], batch(5).inputs[4])
    assert torch.allclose(result.targets[4], torch.tensor([0.02, 0.02, 0.02, 0.02, 0.92]))
    assert not torch.equal(result.inputs[:4], batch(5).inputs[:4])


def test_mixing_depends_on_the_draws_and_leaves_the_given_batch_unchanged() -> None:
    given = batch(6)
    mixing = Mixup(Augmentation(mixup=0.8, cutmix=1.0), 6)
    np.random.seed(3)
    first = mixing(given)
    np.random.seed(3)
    second = mixing(given)
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.targets, second.targets)
    assert torch.equal(given.inputs, batch(6).inputs)


def test_without_mixing_only_labels_are_smoothed() -> None:
    result = mixed(Augmentation(mixup=0.8, mix_probability=0.0), 4, smoothing=0.2)
    assert torch.equal(result.inputs, batch(4).inputs)
    assert torch.allclose(result.targets, torch.eye(4) * 0.8 + 0.05)
