"""Norms, activations and scales against PyTorch's own, and the block's formula."""

import pytest
import torch
from torch import nn

from metaformer.factory.classifier import create_model
from metaformer.model.block import Block
from metaformer.model.build import build_backbone, drop_path_rates
from metaformer.model.layers import (
    Affine,
    BatchNorm,
    ChannelMLP,
    DropPath,
    GroupNorm,
    LayerNorm,
    NoSkip,
    Scale,
    StarReLU,
)
from metaformer.model.mixers.pooling import Pooling
from metaformer.model.tokens import to_map, to_tokens
from metaformer.spec.model import MLPSpec, ModelSpec, NormSpec, ResidualSpec, StageSpec

GRID = (4, 6)


def randomized(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


@pytest.mark.parametrize("bias", [True, False])
def test_group_norm_of_tokens_is_group_norm_of_the_map(bias):
    ours, x = randomized(GroupNorm(8, eps=1e-5, bias=bias)), torch.randn(3, 24, 8) * 3 + 1
    reference = nn.GroupNorm(1, 8, eps=1e-5)
    reference.weight, reference.bias = ours.weight, ours.bias if bias else nn.Parameter(torch.zeros(8))
    torch.testing.assert_close(ours(x), to_tokens(reference(to_map(x, GRID))), rtol=1e-5, atol=1e-5)
    assert ours(x).is_contiguous()


def test_group_norm_sees_the_whole_image_and_layer_norm_one_token():
    x = torch.randn(1, 24, 8)
    changed = x.clone()
    changed[0, 0] += 10
    assert not torch.allclose(GroupNorm(8)(x)[0, 1], GroupNorm(8)(changed)[0, 1])
    torch.testing.assert_close(LayerNorm(8)(x)[0, 1], LayerNorm(8)(changed)[0, 1])


def test_batch_norm_normalizes_each_channel_over_batch_and_tokens():
    y = BatchNorm(8)(torch.randn(5, 24, 8) * 3 + 2)
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var((0, 1), unbiased=False), torch.ones(8), atol=1e-4, rtol=0)
    assert BatchNorm(8, bias=False).bias is None


def test_affine_has_no_statistics():
    affine = randomized(Affine(8))
    x = torch.randn(2, 24, 8)
    torch.testing.assert_close(affine(x), x * affine.weight + affine.bias)


def test_star_relu_is_a_scaled_and_shifted_square():
    star = StarReLU()
    with torch.no_grad():
        star.scale.fill_(0.8944)
        star.bias.fill_(-0.4472)
    x = torch.randn(100_000)
    torch.testing.assert_close(star(x), 0.8944 * x.clamp(min=0) ** 2 - 0.4472)
    # the paper's derivation: these two constants give a Gaussian input mean 0 and variance 1
    assert abs(star(x).mean()) < 0.02
    assert abs(star(x).var() - 1) < 0.05


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    drop = DropPath(0.25)
    x = torch.ones(4000, 3, 2)
    y = drop(x)
    assert y.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert (y.flatten(1).std(1) == 0).all()
    assert abs(y.mean() - 1) < 0.05
    assert drop.eval()(x) is x


def test_drop_path_rates_rise_linearly_over_all_blocks_or_are_constant():
    stages = tuple(StageSpec(depth=d, width=8) for d in (2, 3))
    linear = ModelSpec(stages=stages, drop_path_rate=0.4)
    assert drop_path_rates(linear) == [[0.0, 0.1], [0.2, pytest.approx(0.3), 0.4]]
    constant = linear.with_changes(drop_path_rule="constant")
    assert drop_path_rates(constant) == [[0.4] * 2, [0.4] * 3]


def parts(**changes):
    """All the parts of a block with something non-trivial in each place."""
    made = {
        "norm1": GroupNorm(8),
        "mixer": Pooling(8),
        "branch1": Scale(8, 0.5),
        "skip1": Scale(8, 2.0),
        "out_norm1": nn.Identity(),
        "norm2": LayerNorm(8),
        "mlp": ChannelMLP(8, 16, nn.GELU()),
        "branch2": Scale(8, 0.25),
        "skip2": nn.Identity(),
        "out_norm2": nn.Identity(),
    }
    return {**made, **changes}


def test_the_block_is_the_formula():
    block, x = randomized(Block(**parts())), torch.randn(2, 24, 8)
    y = block.skip1.scale * x + block.branch1.scale * block.mixer(block.norm1(x), GRID)
    z = y + block.branch2.scale * block.mlp(block.norm2(y))
    torch.testing.assert_close(block(x, GRID), z)


def test_a_cut_shortcut_leaves_only_the_branch():
    x = torch.randn(2, 24, 8)
    block = Block(**parts(skip1=NoSkip(), skip2=NoSkip()))
    y = block.branch1(block.mixer(block.norm1(x), GRID))
    torch.testing.assert_close(block(x, GRID), block.branch2(block.mlp(block.norm2(y))))


def backbone(**changes):
    stage = StageSpec(depth=1, width=8, **changes)
    return build_backbone(ModelSpec(stages=(stage,), in_chans=3))


def test_post_norm_normalizes_the_sum():
    built = backbone(residual=ResidualSpec(norm_position="after"), norm=NormSpec(kind="layer"))
    x, *_ = built(torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(x.mean(-1), torch.zeros(x.shape[:2]), atol=1e-5, rtol=0)


def test_an_axis_switched_off_leaves_no_parameter_behind():
    names = {name.split(".")[4] for name, _ in backbone(mlp=None).named_parameters() if ".blocks." in name}
    assert names == {"norm1"} or all(not name.endswith("2") for name in names)
    bare = backbone(mlp=None, norm=NormSpec(kind="none"))
    assert [name for name, _ in bare.named_parameters() if ".blocks." in name] == []


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu", "squared_relu", "star_relu"])
@pytest.mark.parametrize("kind", ["layer", "group", "affine", "batch", "none"])
def test_every_norm_and_activation_trains(activation, kind):
    built = backbone(
        mlp=MLPSpec(activation=activation), norm=NormSpec(kind=kind), residual=ResidualSpec(skip_scale=1.0)
    )
    x, *_ = built(torch.randn(2, 3, 16, 16))
    x.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in built.parameters())


@pytest.mark.parametrize("name", ["poolformer_s12", "caformer_s18", "pvt_tiny", "deit_tiny_patch16_224"])
def test_tokens_and_their_gradients_keep_one_layout(name):
    """An image comes as planes. Were its layout to survive the stem, every layer and every gradient would be
    transposed, which costs a quarter of a training step on the CPU."""
    model = create_model(name, num_classes=3, img_size=64)
    seen = {}

    def watch(place):
        def tensors(_, gradients_in, gradients_out):
            seen[place] = [g for g in (*gradients_in, *gradients_out) if g is not None and g.dim() == 3]

        return tensors

    for place, module in model.named_modules():
        if isinstance(module, (GroupNorm, LayerNorm, Scale, nn.Linear)) and "blocks" in place:
            module.register_full_backward_hook(watch(place))
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert seen
    transposed = [place for place, tensors in seen.items() if not all(t.is_contiguous() for t in tensors)]
    assert not transposed
