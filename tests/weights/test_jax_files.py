"""Google's .npz files of ViT and MLP-Mixer: what timm makes of a file is what we make of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.mlp_mixer import MlpMixer
from timm.models.vision_transformer import VisionTransformer

import metaformer
from metaformer.errors import WeightsError
from metaformer.weights.load import load_weights
from metaformer.zoo.mlp import mixer_frame
from metaformer.zoo.vit import vit_frame

WIDTH, HEADS, CLASSES = 24, 3, 5
Arrays = dict[str, np.ndarray]


def drawn(*shape: int) -> np.ndarray:
    return torch.randn(*shape).numpy() / 4


def layer(name: str, *shape: int, bias: tuple[int, ...] = ()) -> Arrays:
    return {f"{name}/kernel": drawn(*shape), f"{name}/bias": drawn(*(bias or shape[-1:]))}


def norm(name: str) -> Arrays:
    return {f"{name}/scale": 1 + drawn(WIDTH), f"{name}/bias": drawn(WIDTH)}


def google_vit(side: int = 32, depth: int = 2) -> Arrays:
    """What Google's ViT code would save of a tiny model."""
    arrays = {"cls": drawn(1, 1, WIDTH)}
    arrays["Transformer/posembed_input/pos_embedding"] = drawn(1, 1 + (side // 16) ** 2, WIDTH)
    arrays |= layer("embedding", 16, 16, 3, WIDTH) | norm("Transformer/encoder_norm") | layer("head", WIDTH, CLASSES)
    for j in range(depth):
        block = f"Transformer/encoderblock_{j}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            arrays |= layer(f"{attention}/{part}", WIDTH, HEADS, WIDTH // HEADS, bias=(HEADS, WIDTH // HEADS))
        arrays |= layer(f"{attention}/out", HEADS, WIDTH // HEADS, WIDTH)
        arrays |= norm(f"{block}/LayerNorm_0") | norm(f"{block}/LayerNorm_2")
        arrays |= layer(f"{block}/MlpBlock_3/Dense_0", WIDTH, 4 * WIDTH)
        arrays |= layer(f"{block}/MlpBlock_3/Dense_1", 4 * WIDTH, WIDTH)
    return arrays


def google_mixer(tokens: int = 4, depth: int = 2) -> Arrays:
    """What Google's MLP-Mixer code would save of a tiny model."""
    arrays = layer("stem", 16, 16, 3, WIDTH) | norm("pre_head_layer_norm") | layer("head", WIDTH, CLASSES)
    for j in range(depth):
        block = f"MixerBlock_{j}"
        arrays |= norm(f"{block}/LayerNorm_0") | norm(f"{block}/LayerNorm_1")
        arrays |= layer(f"{block}/token_mixing/Dense_0", tokens, WIDTH // 2)
        arrays |= layer(f"{block}/token_mixing/Dense_1", WIDTH // 2, tokens)
        arrays |= layer(f"{block}/channel_mixing/Dense_0", WIDTH, 4 * WIDTH)
        arrays |= layer(f"{block}/channel_mixing/Dense_1", 4 * WIDTH, WIDTH)
    return arrays


@torch.inference_mode()
def test_a_vits_file_gives_the_scores_that_timm_gives(tmp_path: Path) -> None:
    path = tmp_path / "B_16.npz"
    np.savez(path, **google_vit())
    theirs = VisionTransformer(32, 16, embed_dim=WIDTH, depth=2, num_heads=HEADS, num_classes=CLASSES).eval()
    theirs.load_pretrained(path)
    mine = metaformer.create_model(vit_frame(2, WIDTH, HEADS, side=32), num_classes=CLASSES).eval()
    report = load_weights(mine, path)
    assert report.layout == "jax"
    assert report.loaded == len(mine.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(mine(images), theirs(images), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_mixers_file_gives_the_scores_of_its_kernels_turned(tmp_path: Path) -> None:
    """timm reads no such file of MLP-Mixer: its model gets the kernels turned by hand."""
    path, arrays = tmp_path / "Mixer-B_16.npz", google_mixer()
    np.savez(path, **arrays)
    words = {"MixerBlock_": "blocks.", "/": ".", "LayerNorm_0": "norm1", "LayerNorm_1": "norm2", "stem": "stem.proj"}
    words |= {"token_mixing": "mlp_tokens", "channel_mixing": "mlp_channels", "Dense_0": "fc1", "Dense_1": "fc2"}
    words |= {"pre_head_layer_norm": "norm", "kernel": "weight", "scale": "weight"}
    state = {}
    for name, array in arrays.items():
        for word, timms in words.items():
            name = name.replace(word, timms)
        state[name] = torch.from_numpy(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)
    theirs = MlpMixer(img_size=32, patch_size=16, num_blocks=2, embed_dim=WIDTH, num_classes=CLASSES).eval()
    theirs.load_state_dict(state, strict=True)
    mine = metaformer.create_model(mixer_frame(2, WIDTH), img_size=32, num_classes=CLASSES).eval()
    assert load_weights(mine, path).layout == "jax"
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(mine(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_arrays_of_objects_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "B_16.npz"
    np.savez(path, **google_vit() | {"extra": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(WeightsError, match=r"refused.*allow_pickle=False"):
        load_weights(metaformer.create_model(vit_frame(2, WIDTH, HEADS, side=32)), path)


def test_a_position_table_in_a_file_is_resampled_too(tmp_path: Path) -> None:
    path = tmp_path / "B_16.npz"
    np.savez(path, **google_vit())
    model = metaformer.create_model(vit_frame(2, WIDTH, HEADS, side=64), num_classes=CLASSES)
    assert load_weights(model, path).adapted == ("backbone.stages.0.position.table from 5 to 17 positions",)
