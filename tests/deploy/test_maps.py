"""A model on maps is the model: every structure of the zoo, folded or not."""

import dataclasses

import pytest
import torch
from dense_models import CLASSES, pyramid_spec
from test_folding import MIXERS, NORMS, STRUCTURES, assert_same, shallow, strange

import metaformer
from metaformer import MixerSpec, NormSpec, create_segmenter
from metaformer.deploy.channels_first import MapStage, as_maps
from metaformer.deploy.fold import fold
from metaformer.deploy.folded_modules import PooledBlock
from metaformer.deploy.map_modules import MapMixer, moments
from metaformer.zoo.catalogue import CATALOGUE

OURS = [name for name in STRUCTURES if not hasattr(CATALOGUE[name].spec, "architecture")]
ON_MAPS = ("pooling", "pooling 5, kept", "identity", "depthwise_conv", "separable_conv", "separable_conv, gelu")


@pytest.mark.parametrize("name", OURS)
def test_every_structure_of_the_zoo_is_the_same_on_maps(name):
    model = shallow(name)
    images = torch.randn(2, 3, *model.spec.img_size)
    with torch.inference_mode():
        plain = model(images)
        assert_same(as_maps(model)(images), plain)
        assert_same(as_maps(fold(model))(images), plain)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("mixer", ON_MAPS)
def test_every_mixer_of_maps_behind_every_norm(mixer, norm):
    spec = pyramid_spec()
    stages = tuple(
        dataclasses.replace(
            stage,
            norm=NormSpec(kind=norm),
            mixer=MixerSpec(name=mixer.split(" ")[0].strip(","), args=MIXERS[mixer]),
            residual=dataclasses.replace(stage.residual, layer_scale=0.5, skip_scale=0.9 if norm == "group" else None),
        )
        for stage in spec.stages
    )
    model = strange(metaformer.create_model(spec.with_changes(stages=stages)))
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        plain = model(images)
        assert_same(as_maps(model)(images), plain)
        found = as_maps(fold(model))
        assert_same(found(images), plain)
    if norm != "batch":
        assert all(isinstance(stage, MapStage) for stage in found.backbone.stages)


def test_pooling_models_are_maps_from_the_image_to_the_head():
    found = as_maps(fold(shallow("poolformer_s12")))
    assert all(isinstance(stage, MapStage) for stage in found.backbone.stages)
    assert [stage.gives_map for stage in found.backbone.stages] == [True, True, True, False]
    assert all(
        isinstance(block, PooledBlock) and isinstance(block.pooled, MapMixer)
        for stage in found.backbone.stages
        for block in stage.blocks
    )


def test_attention_stages_keep_their_tokens():
    found = as_maps(shallow("caformer_s18"))
    assert [isinstance(stage, MapStage) for stage in found.backbone.stages] == [True, True, False, False]
    assert isinstance(found.backbone.stages[0].blocks[0].mixer, MapMixer)


def test_features_are_the_same():
    model = strange(metaformer.create_model(pyramid_spec()))
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for mine, theirs in zip(
            as_maps(fold(model)).forward_intermediates(images, intermediates_only=True),
            model.forward_intermediates(images, intermediates_only=True),
            strict=True,
        ):
            assert_same(mine, theirs)


def test_a_segmenter_works_on_maps_too():
    model = strange(create_segmenter(backbone=pyramid_spec(), num_classes=CLASSES))
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert_same(as_maps(fold(model))(images), model(images))


def test_moments_are_those_of_all_numbers_of_an_image():
    x = torch.randn(3, 5, 7, 4) * 3 + 2
    mean, deviation = moments(x, 1e-5)
    assert torch.allclose(mean.flatten(), x.flatten(1).mean(1), rtol=1e-5)
    assert torch.allclose(deviation.flatten(), (x.flatten(1).var(1, correction=0) + 1e-5).rsqrt(), rtol=1e-5)
