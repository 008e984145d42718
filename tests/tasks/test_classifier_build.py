"""A classifier is fitted to its images where the recipe leaves that open; where it does not, the recipe is obeyed."""

from __future__ import annotations

import pytest

from metaformer.data.sources import open_labeled
from metaformer.recipe import Augmentation, DataConfig, ModelConfig, Recipe
from metaformer.tasks.classification.build import build_model, stem_stride_for
from metaformer.zoo.catalogue import find


@pytest.mark.parametrize(("size", "stride"), [(8, 1), (28, 1), (32, 1), (64, 2), (96, 2), (128, None), (224, None)])
def test_the_stem_steps_less_for_small_images(size: int, stride: int | None) -> None:
    spec = find("poolformer_s12").spec
    assert stem_stride_for(spec, (size, size)) == stride
    if size >= 28:
        last = spec.with_stem_stride(stride or 4).grids((size, size))[-1]
        assert min(last) > 1, "the published stem would leave a single token"


@pytest.mark.parametrize(("size", "patch"), [(8, 1), (28, 3), (32, 4), (64, 8), (224, None)])
def test_patches_shrink_with_the_images(size: int, patch: int | None) -> None:
    spec = find("deit_tiny_patch16_224").spec
    assert stem_stride_for(spec, (size, size)) == patch
    assert min(spec.with_stem_stride(patch or 16).grids((size, size))[0]) >= 8
    assert stem_stride_for(find("resnet18").spec, (size, size)) is None


def test_a_model_is_fitted_to_small_gray_images() -> None:
    splits = open_labeled(DataConfig(source="digits"))
    model, notes = build_model(Recipe(), splits)
    assert (model.spec.in_chans, model.spec.num_classes) == (1, 10)
    assert model.preprocessing.size == (8, 8)
    assert model.preprocessing.crop == 1.0
    assert any("stem stride 1" in note for note in notes)
    given = Recipe(model=ModelConfig(img_size=32, stem_stride=2, in_chans=3), augmentation=Augmentation(crop=0.9))
    model, notes = build_model(given, splits)
    assert model.spec.img_size == (32, 32)
    assert (model.spec.in_chans, model.preprocessing.crop) == (3, 0.9)
    assert model.spec.stages[0].embedding.stride == 2
    assert notes == []
