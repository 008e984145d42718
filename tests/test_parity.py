"""At random weights our models equal timm's and transformers', row by row, to 1e-4 of the largest magnitude.

Every parameter is drawn at random, norms and scales included, so that no part is an identity by its initial value.
The other library's state dict goes through ``load_weights``. Small images keep the large rows quick.
"""

import pytest
import timm
import torch
from random_twins import assert_close, of_timm, ours, random_images, randomized, unfilled
from timm.models.metaformer import MetaFormer
from torch import nn
from transformers import PoolFormerConfig, PoolFormerForImageClassification

import metaformer
from metaformer.weights.load import load_weights
from metaformer.weights.translate import to_layout

SMALL, LARGE = ("s12", "s18"), ("m36", "m48", "b36")
VARIANTS = ("_384", "_in21ft1k", "_384_in21ft1k", "_in21k")


def rows(pattern: str) -> list:
    """The published sizes of a family; pre-training and image size change no part of the architecture."""
    names = [name for name in metaformer.list_models(pattern) if not name.endswith(VARIANTS)]
    return [pytest.param(name, marks=pytest.mark.slow) if name.endswith(LARGE) else name for name in names]


FIRST_PAPER = rows("poolformer_*")
IN_TIMM = FIRST_PAPER + rows("poolformerv2_*") + rows("convformer_*") + rows("caformer_*")
QUICK = [name for name in IN_TIMM if isinstance(name, str) and name.endswith(SMALL)]


def of_transformers(name: str) -> nn.Module:
    stages = metaformer.find(name).spec.stages
    config = PoolFormerConfig(
        depths=[stage.depth for stage in stages],
        hidden_sizes=[stage.width for stage in stages],
        num_labels=1000,
    )
    return randomized(unfilled(PoolFormerForImageClassification, config))


@pytest.mark.parametrize("name", IN_TIMM)
@torch.inference_mode()
def test_logits_are_timms(name: str) -> None:
    theirs, mine = of_timm(name), ours(name, timm_head=True)
    assert load_weights(mine, theirs.state_dict()).layout == "timm"
    images = random_images()
    assert_close(mine(images), theirs(images))


@pytest.mark.parametrize("name", FIRST_PAPER)
@torch.inference_mode()
def test_logits_are_those_of_transformers(name: str) -> None:
    theirs, mine = of_transformers(name), ours(name)
    assert load_weights(mine, theirs.state_dict()).layout == "huggingface"
    images = random_images()
    assert_close(mine(images), theirs(images).logits)


@pytest.mark.parametrize("name", ["poolformerv2_s12", "convformer_s18", "caformer_s18"])
@torch.inference_mode()
def test_the_second_papers_head_is_timms_without_an_option(name: str) -> None:
    theirs, mine = of_timm(name), ours(name)
    load_weights(mine, theirs.state_dict())
    images = random_images()
    assert_close(mine(images), theirs(images))


@torch.inference_mode()
def test_timms_poolformer_has_another_head() -> None:
    """The same weights, other scores: the final norm stands elsewhere, so the original's order is the default."""
    theirs, mine = of_timm("poolformer_s12"), ours("poolformer_s12")
    load_weights(mine, theirs.state_dict())
    images = random_images()
    assert (mine(images) - theirs(images)).abs().max() > 1e-3 * theirs(images).abs().max()


@torch.inference_mode()
def test_the_head_of_imagenet_21k() -> None:
    theirs = of_timm("caformer_s18.sail_in22k")
    mine = ours("caformer_s18_in21k")
    assert load_weights(mine, theirs.state_dict()).fresh == ()
    images = random_images()
    assert mine(images).shape == (2, 21841)
    assert_close(mine(images), theirs(images))


@pytest.mark.parametrize("name", [name for name in metaformer.list_models() if name.endswith(VARIANTS)])
def test_variants_differ_in_size_and_classes_only(name: str) -> None:
    variant = metaformer.find(name).spec
    words = name.split("_")
    base = metaformer.find("_".join(words[:2]) if words[0] != "vit" else "_".join([*words[:-1], "224"])).spec
    assert base.with_changes(img_size=variant.img_size, num_classes=variant.num_classes) == variant


@pytest.mark.parametrize("name", QUICK)
@torch.inference_mode()
def test_feature_maps_are_timms(name: str) -> None:
    theirs = of_timm(name)
    backbone = unfilled(timm.create_model, name, features_only=True)
    kept = {key.replace("stages.", "stages_"): value for key, value in theirs.state_dict().items()}
    backbone.load_state_dict({key: value for key, value in kept.items() if not key.startswith("head.")})
    mine = ours(name, features_only=True)
    report = load_weights(mine, theirs.state_dict())
    assert all(key.startswith("head.") for key in report.left_out)
    images = random_images()
    for my_map, their_map in zip(mine(images), backbone(images), strict=True):
        assert_close(my_map, their_map)
    assert list(mine.feature_info.channels()) == backbone.feature_info.channels()
    assert list(mine.feature_info.reduction()) == backbone.feature_info.reduction()


@pytest.mark.parametrize("name", QUICK)
def test_timm_loads_what_we_lay_out_for_it(name: str) -> None:
    mine = randomized(ours(name))
    theirs: MetaFormer = unfilled(timm.create_model, name)
    theirs.load_state_dict(to_layout(mine, "timm"), strict=True)
    back = ours(name)
    load_weights(back, theirs.state_dict())
    for key, value in mine.state_dict().items():
        torch.testing.assert_close(back.state_dict()[key], value, rtol=0, atol=0)


def test_transformers_loads_what_we_lay_out_for_it() -> None:
    mine = randomized(ours("poolformer_s12"))
    of_transformers("poolformer_s12").load_state_dict(to_layout(mine, "huggingface"), strict=True)
