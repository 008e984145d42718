"""At random weights the compared systems equal timm's and transformers', row by row, to 1e-4 of the largest magnitude.

As in ``test_parity.py``: every parameter is drawn at random, and the other library's state dict goes through
``load_weights``. One small model of each family is compared at its published size, the others at 64 pixels where the
family takes them; rows above 30 million parameters are marked slow.
"""

from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import transformers
from random_twins import assert_close, of_timm, ours, randomized, unfilled
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock
from torch import Tensor, nn
from transformers.models.fnet.modeling_fnet import FNetLayer

import metaformer
from metaformer.weights.load import load_weights
from metaformer.weights.translate import to_layout
from metaformer.zoo.mlp import fnet_frame

SWIN = "swin_tiny_patch4_window7_224"
DISTILLED = "deit_tiny_distilled_patch16_224"
SMALLEST = ["deit_tiny_patch16_224", DISTILLED, "mixer_s16_224", "resmlp_12_224", "gmlp_ti16_224"]
BIG_RESMLP = "resmlp_big_24_patch16_224"  # the row that timm has with patches of 8 × 8 only
FAMILIES = ("ViT", "DeiT", "MLP-Mixer", "ResMLP", "gMLP")
PVT = metaformer.list_models("pvt_*")


def rows(names: list[str]) -> list:
    """The names, with those of large models marked slow."""
    large = {name for name in names if metaformer.find(name).parameters > 30e6}
    return [pytest.param(name, marks=pytest.mark.slow) if name in large else name for name in names]


ISOTROPIC = [name for family in FAMILIES for name in metaformer.list_models(family=family) if not name.endswith("384")]
SWINS = metaformer.list_models(family="Swin")


def twin_of_timm(name: str, **kwargs) -> nn.Module:
    """Timm's model at random weights; Swin's holds tables that only its own initialization fills."""
    if name == BIG_RESMLP:
        layers = {"block_layer": ResBlock, "norm_layer": Affine, "mlp_ratio": 4}
        return randomized(unfilled(MlpMixer, patch_size=16, num_blocks=24, embed_dim=768, **layers, **kwargs))
    if name.startswith("swin"):
        return randomized(timm.create_model(name, **kwargs))
    return of_timm(name, **kwargs)


def random_images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side)


def assert_twins(theirs: nn.Module, mine: nn.Module, side: int, layout: str) -> None:
    report = load_weights(mine, theirs.state_dict())
    assert report.layout == layout
    assert report.fresh == report.adapted == report.left_out == ()
    images = random_images(side)
    scores = theirs(images)
    assert_close(mine(images), scores if isinstance(scores, Tensor) else scores.logits)


@pytest.mark.parametrize("name", [*SMALLEST, *rows(SWINS)])
@torch.inference_mode()
def test_logits_are_timms(name: str) -> None:
    assert_twins(twin_of_timm(name), ours(name), 224, "timm")


@pytest.mark.parametrize("name", rows([name for name in ISOTROPIC if name not in SMALLEST]))
@torch.inference_mode()
def test_logits_of_small_images_are_timms(name: str) -> None:
    assert_twins(twin_of_timm(name, img_size=64), ours(name, img_size=64), 64, "timm")


# --- transformers -------------------------------------------------------------------------------------------------


def vit_config(kind: type, name: str, side: int) -> transformers.PretrainedConfig:
    stage = metaformer.find(name).spec.stages[0]
    return kind(
        image_size=side,
        hidden_size=stage.width,
        num_hidden_layers=stage.depth,
        num_attention_heads=stage.mixer.args["heads"],
        intermediate_size=4 * stage.width,
        layer_norm_eps=1e-6,
        num_labels=1000,
    )


def pvt_config(name: str, side: int) -> transformers.PvtConfig:
    stages = metaformer.find(name).spec.stages
    return transformers.PvtConfig(image_size=side, depths=[stage.depth for stage in stages], num_labels=1000)


def swin_config(name: str) -> transformers.SwinConfig:
    stages = metaformer.find(name).spec.stages
    heads = [stage.width // 32 for stage in stages]
    depths = [stage.depth for stage in stages]
    return transformers.SwinConfig(embed_dim=stages[0].width, depths=depths, num_heads=heads, num_labels=1000)


OF_TRANSFORMERS = {
    "deit_tiny_patch16_224": (
        transformers.ViTForImageClassification,
        partial(vit_config, transformers.ViTConfig, "deit_tiny_patch16_224", 64),
    ),
    DISTILLED: (
        transformers.DeiTForImageClassificationWithTeacher,
        partial(vit_config, transformers.DeiTConfig, DISTILLED, 64),
    ),
    "pvt_tiny": (transformers.PvtForImageClassification, partial(pvt_config, "pvt_tiny", 64)),
    SWIN: (transformers.SwinForImageClassification, partial(swin_config, SWIN)),
}


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
@torch.inference_mode()
def test_logits_are_those_of_transformers(name: str) -> None:
    kind, config = OF_TRANSFORMERS[name]
    side = config().image_size
    assert_twins(randomized(kind(config())), ours(name, img_size=side), side, "huggingface")


@pytest.mark.parametrize("name", rows(PVT))
@torch.inference_mode()
def test_pvts_logits_are_those_of_transformers(name: str) -> None:
    theirs = randomized(unfilled(transformers.PvtForImageClassification, pvt_config(name, 224)))
    assert_twins(theirs, ours(name), 224, "huggingface")


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
@torch.inference_mode()
def test_transformers_reads_a_file_that_we_lay_out_for_it(name: str, tmp_path: Path) -> None:
    kind, config = OF_TRANSFORMERS[name]
    side = config().image_size
    mine = randomized(ours(name, img_size=side))
    config().save_pretrained(tmp_path)
    torch.save(to_layout(mine, "huggingface"), tmp_path / "pytorch_model.bin")
    theirs, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    images = random_images(side)
    assert_close(mine(images), theirs.eval()(images).logits)
    assert load_weights(ours(name, img_size=side), tmp_path / "pytorch_model.bin").layout == "huggingface"


@torch.inference_mode()
def test_a_fourier_block_is_fnets() -> None:
    """FNet has no published weights for images, so its layer's parts are named here."""
    config = transformers.FNetConfig(hidden_size=48, intermediate_size=192)
    theirs = randomized(FNetLayer(config))
    block = metaformer.create_model(fnet_frame(1, 48)).eval().backbone.stages[0].blocks[0]
    parts = {
        "fourier.output.LayerNorm": "out_norm1",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "output.LayerNorm": "out_norm2",
    }
    state = {}
    for name, value in theirs.state_dict().items():
        part, _, leaf = name.rpartition(".")
        state[f"{parts[part]}.{leaf}"] = value
    block.load_state_dict(state, strict=True)
    tokens = torch.randn(2, 12, 48)
    assert block.out_norm1.eps == config.layer_norm_eps
    assert_close(block(tokens, (3, 4)), theirs(tokens)[0])


# --- features, and the way back -----------------------------------------------------------------------------------


@torch.inference_mode()
def test_the_last_blocks_maps_are_timms() -> None:
    theirs = twin_of_timm("deit_tiny_patch16_224", img_size=64)
    maps = theirs.forward_intermediates(images := random_images(64), indices=3, intermediates_only=True)
    extractor = timm.create_model("deit_tiny_patch16_224", img_size=64, features_only=True).eval()
    kept = {name: value for name, value in theirs.state_dict().items() if not name.startswith(("norm.", "head."))}
    extractor.model.load_state_dict(kept)
    mine = ours("deit_tiny_patch16_224", img_size=64, features_only=True)
    report = load_weights(mine, theirs.state_dict())
    assert len(report.left_out) == 4
    assert all(name.startswith("head.") for name in report.left_out)
    for my_map, their_map, same in zip(mine(images), extractor(images), maps, strict=True):
        assert_close(my_map, their_map)
        assert_close(my_map, same)
    assert list(mine.feature_info.channels()) == extractor.feature_info.channels()
    assert list(mine.feature_info.reduction()) == extractor.feature_info.reduction()


@torch.inference_mode()
def test_swins_maps_are_timms_with_channels_first() -> None:
    theirs = randomized(timm.create_model(SWIN, features_only=True))
    mine = ours(SWIN, features_only=True)
    state = {name.replace("layers_", "layers."): value for name, value in theirs.state_dict().items()}
    load_weights(mine, state)
    images = random_images(224)
    for my_map, their_map in zip(mine(images), theirs(images), strict=True):
        assert_close(my_map, their_map.permute(0, 3, 1, 2))
    assert list(mine.feature_info.channels()) == theirs.feature_info.channels()
    assert list(mine.feature_info.reduction()) == theirs.feature_info.reduction()


@pytest.mark.parametrize("name", [*SMALLEST, SWIN])
def test_timm_loads_what_we_lay_out_for_it(name: str) -> None:
    mine = randomized(ours(name))
    theirs = unfilled(timm.create_model, name)
    theirs.load_state_dict(to_layout(mine, "timm"), strict=True)
    back = ours(name)
    load_weights(back, theirs.state_dict())
    for key, value in mine.state_dict().items():
        assert torch.equal(back.state_dict()[key], value)
