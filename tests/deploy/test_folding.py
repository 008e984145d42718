"""Folding is algebra: every structure of the zoo gives the same scores folded, at weights where nothing is 0 or 1."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from dense_models import CLASSES, flat_spec, pyramid_spec, random_images
from random_twins import randomized, unfilled
from torch import nn

import metaformer
from metaformer import (
    EmbeddingSpec,
    MixerSpec,
    ModelSpec,
    NormSpec,
    StageSpec,
    TimmSpec,
    create_detector,
    create_segmenter,
)
from metaformer.deploy.fold import fold
from metaformer.deploy.folded_modules import PooledBlock
from metaformer.errors import InputError
from metaformer.model.layers import Affine, GroupNorm, Scale, StarReLU
from metaformer.spec.input import TokenInput
from metaformer.zoo.catalogue import CATALOGUE

EXACT = 1e-5


def structure(name: str) -> object:
    """What folding sees of a row: its parts, whatever their widths and numbers."""
    row = CATALOGUE[name]
    spec = row.spec
    if isinstance(spec, TimmSpec):
        return row.family, spec.architecture in ("resnet18", "resnet34")
    plain = [dataclasses.replace(stage, depth=1, width=64) for stage in spec.stages]
    return repr([plain, spec.head])


STRUCTURES = list({structure(name): name for name in reversed(CATALOGUE)}.values())


def shallow(name: str) -> nn.Module:
    """A row of the zoo with two blocks a stage at most, at small images, all its weights random."""
    spec = CATALOGUE[name].spec
    if isinstance(spec, TimmSpec):
        return strange(unfilled(metaformer.create_model, name))
    side = min(224, 2 * spec.reductions()[-1] * (7 if "swin" in name else 1))
    stages = tuple(dataclasses.replace(stage, depth=min(stage.depth, 2)) for stage in spec.stages)
    return strange(unfilled(metaformer.create_model, spec.with_changes(stages=stages), img_size=side))


def strange(model: nn.Module) -> nn.Module:
    """Weights, shifts, scales and statistics that are neither 0 nor 1."""
    randomized(model)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.running_mean.normal_(std=0.3)
                part.running_var.uniform_(0.5, 2)
    return model


def assert_same(folded: torch.Tensor, plain: torch.Tensor) -> None:
    assert folded.shape == plain.shape
    assert ((folded - plain).abs().max() / plain.abs().max()).item() < EXACT


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_of_the_zoo_gives_the_same_scores_folded(name):
    model = shallow(name)
    size = (64, 64) if isinstance(model.spec, TimmSpec) else model.spec.img_size
    images = torch.randn(2, 3, *size)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with torch.inference_mode():
        plain, folded = model(images), fold(model)
        assert_same(folded(images), plain)
        assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert type(folded) is type(model)
    assert not any(isinstance(part, StarReLU) for part in folded.modules())


@pytest.mark.slow
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_row_at_full_depth(name):
    model = strange(unfilled(metaformer.create_model, name))
    images = torch.randn(1, 3, *model.preprocessing.size)
    with torch.inference_mode():
        assert_same(fold(model)(images), model(images))


def test_poolformer_becomes_one_factor_a_block_and_plain_norms():
    model = shallow("poolformer_s12")
    folded = fold(model)
    blocks = [block for stage in folded.backbone.stages for block in stage.blocks]
    assert all(isinstance(block, PooledBlock) for block in blocks)
    assert not any(isinstance(part, Scale) for part in folded.modules())
    assert all(part.weight is None for part in folded.modules() if isinstance(part, GroupNorm))
    assert len([line for line in folded.folded if "pooling and shortcut" in line]) == len(blocks)
    assert "backbone.stages.0.blocks.0.norm2 into mlp" in folded.folded
    assert "head.pre_norm into fc" in folded.folded


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (75, 101)])
def test_a_folded_pooling_model_takes_any_size(size):
    model = strange(metaformer.create_model(pyramid_spec()))
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        assert_same(fold(model)(images), model(images))


NORMS = ("layer", "group", "batch", "affine", "none")
MIXERS = {
    "pooling": {},
    "pooling 5, kept": {"kernel": 5, "subtract": False},
    "identity": {},
    "depthwise_conv": {},
    "separable_conv": {"bias": True},
    "separable_conv, gelu": {"activation": "gelu"},
    "attention": {"head_dim": 4, "qkv_bias": True},
    "reduced_attention": {"head_dim": 4, "ratio": 2},
    "gating_unit": {},
    "spatial_fc": {},
    "spatial_mlp": {},
    "fourier": {},
    "window": {"window": 3, "shift": "pad", "mixer": "spatial_fc"},
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("activation", ["gelu", "star_relu"])
def test_every_mixer_behind_every_norm_is_the_same_folded(mixer, norm, activation):
    """The grid of 7 x 5 is no multiple of the window, so its padding is met."""
    spec = flat_spec(stride=4, prefix=0)
    (stage,) = spec.stages
    stage = dataclasses.replace(
        stage,
        norm=NormSpec(kind=norm),
        mixer=MixerSpec(name=mixer.split(" ")[0].strip(","), args=MIXERS[mixer]),
        mlp=dataclasses.replace(stage.mlp, activation=activation),
        residual=dataclasses.replace(stage.residual, layer_scale=0.5, skip_scale=0.9 if norm == "group" else None),
    )
    model = strange(metaformer.create_model(spec.with_changes(stages=(stage,), drop_path_rate=0.3, img_size=(28, 20))))
    images = torch.randn(2, 3, 28, 20)
    with torch.inference_mode():
        folded = fold(model)
        assert_same(folded(images), model(images))
    assert (
        norm != "affine"
        or mixer.startswith(("spatial", "fourier", "window", "identity", "depthwise", "pooling 5"))
        or not any(isinstance(part, Affine) for part in folded.modules())
    )


def test_a_scale_of_zero_is_no_trap():
    spec = pyramid_spec("separable_conv")
    model = strange(metaformer.create_model(spec))
    with torch.inference_mode():
        for part in model.modules():
            if isinstance(part, StarReLU):
                part.scale.zero_()
            if isinstance(part, Scale):
                part.scale[::2] = 0
        images = torch.randn(1, 3, 64, 64)
        assert_same(fold(model)(images), model(images))


def test_a_mixer_of_ones_own_keeps_what_it_knows_and_folds_the_rest():
    class Shuffle(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()

        def forward(self, x, grid, mask=None):
            return x.flip(1)

    model = strange(metaformer.create_model(pyramid_spec(), mixers=Shuffle))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        folded = fold(model)
        assert_same(folded(images), model(images))
    assert any("norm2 into mlp" in line for line in folded.folded)
    assert not any("mixer" in line for line in folded.folded)


def test_segmenters_and_detectors_fold_too():
    segmenter = strange(create_segmenter(backbone=pyramid_spec(), num_classes=CLASSES))
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        folded = fold(segmenter)
        assert_same(folded(images), segmenter(images))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    detector = create_detector("retinanet", pyramid_spec(), num_classes=CLASSES, short_side=64, long_side=96).eval()
    with torch.inference_mode():
        batch = torch.stack([image[:, :50, :64] for image in random_images()])
        mine, theirs = fold(detector).forward_dense(batch), detector.forward_dense(batch)
        for name, answer in theirs.items():
            assert_same(mine[name], answer)


def test_half_precision_and_double_precision_stay_what_they_are():
    for dtype in (torch.bfloat16, torch.float64):
        model = strange(metaformer.create_model(pyramid_spec())).to(dtype)
        folded = fold(model)
        assert {parameter.dtype for parameter in folded.parameters()} == {dtype}
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        assert torch.allclose(folded(images), model(images), rtol=1e-12, atol=1e-12)


class Crossed(nn.Module):
    """The norm stands behind the convolution and is called before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x))


class Tapped(Crossed):
    """Somebody else reads the convolution's answer too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


def shared() -> nn.Module:
    conv = nn.Conv2d(3, 3, 1)
    return nn.Sequential(conv, nn.BatchNorm2d(3), conv)


def hooked() -> nn.Module:
    conv = nn.Conv2d(3, 3, 1)
    conv.register_forward_hook(lambda module, given, found: found * 3)
    return nn.Sequential(conv, nn.BatchNorm2d(3))


def normed() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3))


@pytest.mark.parametrize("make", [Crossed, Tapped, shared, hooked, normed])
def test_what_is_not_called_in_order_stays_as_it_is(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, images = strange(make()).eval(), torch.randn(2, 3, 8, 8)
    folded = fold(model)
    with torch.no_grad():
        assert_same(folded(images), model(images))
    assert not folded.folded


def test_what_is_no_module() -> None:
    with pytest.raises(InputError, match="got str"):
        fold("poolformer_s12")  # type: ignore[arg-type]


LOOKUP = EmbeddingSpec(kind="token")
STEPS = {
    "patches": EmbeddingSpec(kernel=2, stride=2, padding=0, norm=NormSpec(kind="layer"), norm_position="before"),
    "merge": EmbeddingSpec(kind="merge", norm=NormSpec()),
}


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("mixer", ["pooling", "pooling 5, kept", "separable_conv", "attention", "reduced_attention"])
def test_a_folded_model_of_tokens_leaves_padding_out(mixer: str, step: str, norm: str) -> None:
    kind = MixerSpec(name=mixer.split(" ")[0].strip(","), args=MIXERS[mixer])
    stages = tuple(
        StageSpec(depth=1, width=16, embedding=embedding, mixer=kind, norm=NormSpec(kind=norm))
        for embedding in (LOOKUP, STEPS[step])
    )
    spec = ModelSpec(stages=stages, num_classes=3, tokens=TokenInput(vocab_size=9, length=12))
    model, ids = strange(metaformer.create_model(spec)).eval(), torch.randint(9, (3, 12))
    mask = torch.arange(12) < torch.tensor([12, 7, 4])[:, None]
    with torch.inference_mode():
        folded = fold(model)
        assert_same(folded(ids, mask), model(ids, mask))
        assert_same(folded(ids), model(ids))
    assert folded.folded


def test_a_model_of_tokens_is_not_compiled() -> None:
    stage = StageSpec(depth=1, width=8, embedding=LOOKUP)
    spec = ModelSpec(stages=(stage,), num_classes=3, tokens=TokenInput(vocab_size=9, length=12))
    with pytest.raises(InputError, match="run a model of token ids in PyTorch"):
        metaformer.compile(metaformer.create_model(spec))
