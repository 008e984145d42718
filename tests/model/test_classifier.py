"""The conventions of the models: sizes, channels, features, heads, initialization, layer groups."""

import re

import pytest
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from metaformer import OnMap, build, count_parameters, create_model
from metaformer.errors import InputError, SpecError
from metaformer.model.embed import MergeEmbedding
from metaformer.spec.mixer import MixerSpec
from metaformer.spec.model import EmbeddingSpec, HeadSpec, ModelSpec, StageSpec
from metaformer.zoo.catalogue import CATALOGUE


@pytest.fixture(scope="module")
def pools():
    return create_model("poolformer_s12", num_classes=10).eval()


@pytest.fixture(scope="module")
def hybrid():
    return create_model("metaformer_ppaa_s12_224", num_classes=10).eval()


def randomize(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.2)
    return model


# --- sizes and channels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["poolformer_s12", "identityformer_s12", "caformer_s18", "metaformer_ppaa_s12_224"])
@pytest.mark.parametrize("size", [(64, 96), (33, 47)])
def test_models_without_a_fixed_grid_take_any_size(name, size):
    model = create_model(name, num_classes=5).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, *size)).shape == (1, 5)


@pytest.mark.parametrize("name", ["metaformer_pppf_s12_224", "randformer_s12"])
def test_models_with_a_fixed_grid_say_so_and_can_be_built_for_another(name):
    with pytest.raises(InputError, match=r"built for .*×.* tokens and got .*img_size"), torch.no_grad():
        create_model(name)(torch.randn(1, 3, 64, 64))
    other = create_model(name, img_size=(64, 96), num_classes=5).eval()
    assert other.preprocessing.size == (64, 96)
    with torch.no_grad():
        assert other(torch.randn(1, 3, 64, 96)).shape == (1, 5)


@pytest.mark.parametrize("in_chans", [1, 2, 3, 13])
def test_any_number_of_channels(in_chans):
    model = create_model("poolformer_s12", in_chans=in_chans, num_classes=4).eval()
    with torch.no_grad():
        assert model(torch.randn(1, in_chans, 64, 64)).shape == (1, 4)
    assert len(model.preprocessing.mean) == in_chans
    with pytest.raises(InputError, match=rf"expected \(batch, {in_chans}, height, width\).*in_chans"):
        model(torch.randn(1, in_chans + 1, 64, 64))


@pytest.mark.parametrize(("side", "stride", "last"), [(32, 1, 4), (28, 1, 4), (32, 2, 2), (64, 2, 4)])
def test_a_small_image_does_not_shrink_to_one_token(side, stride, last):
    model = create_model("poolformer_s12", stem_stride=stride, img_size=side).eval()
    with torch.no_grad():
        assert model.forward_features(torch.randn(1, 3, side, side)).shape[-2:] == (last, last)
    assert model.feature_info.reduction() == [stride, 2 * stride, 4 * stride, 8 * stride]
    assert count_parameters(model) == CATALOGUE["poolformer_s12"].parameters


def test_an_image_smaller_than_the_window_is_refused(pools):
    with pytest.raises(InputError, match=r"a map of 2 × 2 is smaller than the embedding's window of 7 × 7"):
        pools(torch.randn(1, 3, 2, 2))


def test_position_tables_are_resampled_smoothly(hybrid):
    position = hybrid.backbone.stages[2].position
    with torch.no_grad():
        rows = torch.linspace(-1, 1, 14)[:, None].expand(14, 14)
        position.table.copy_(rows.reshape(1, 196, 1).expand(-1, -1, 320))
        other = position.resampled((7, 21)).reshape(7, 21, 320)
        position.table.zero_()
    assert (other.diff(dim=0) > 0).all()
    torch.testing.assert_close(other[:, :1].expand_as(other), other)


# --- features ---------------------------------------------------------------------------------------------------


def test_feature_info_and_features_agree(pools):
    features = create_model("poolformer_s12", features_only=True).eval()
    assert features.feature_info.channels() == [64, 128, 320, 512]
    assert features.feature_info.reduction() == [4, 8, 16, 32]
    with torch.no_grad():
        maps = features(torch.randn(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, 64, 16, 24), (2, 128, 8, 12), (2, 320, 4, 6), (2, 512, 2, 3)]


def test_out_indices_choose_stages_and_leave_later_ones_unbuilt():
    features = create_model("poolformer_s12", features_only=True, out_indices=(1, 2)).eval()
    assert features.feature_info.channels() == [128, 320]
    assert not any("stages.3" in name for name, _ in features.named_parameters())
    with torch.no_grad():
        assert [m.shape[1] for m in features(torch.randn(1, 3, 64, 64))] == [128, 320]
    with pytest.raises(InputError, match="indices: expected at least one of 0 to 3"):
        create_model("poolformer_s12", features_only=True, out_indices=())
    with pytest.raises(InputError, match="indices: expected 0 to 3, got 4"):
        create_model("poolformer_s12", features_only=True, out_indices=(4,))


def test_features_then_head_is_the_whole(pools):
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = pools.forward_features(x)
        torch.testing.assert_close(pools.forward_head(features), pools(x))
        pre_logits = pools.forward_head(features, pre_logits=True)
        torch.testing.assert_close(pools.head.fc(pre_logits), pools(x))


def test_intermediates_are_the_stage_maps(pools):
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        final, maps = pools.forward_intermediates(x)
        torch.testing.assert_close(final, pools.forward_features(x))
        torch.testing.assert_close(maps[-1], final)
        last_two = pools.forward_intermediates(x, indices=2, intermediates_only=True)
        early = pools.forward_intermediates(x, indices=[0, 1], stop_early=True, intermediates_only=True)
        rows = pools.forward_intermediates(x, indices=[-1], output_fmt="NLC", intermediates_only=True)
        normed = pools.forward_intermediates(x, indices=[-1], norm=True, intermediates_only=True)[0]
        torch.testing.assert_close(pools.head.fc(normed.mean((2, 3))), pools(x))
    torch.testing.assert_close(last_two[0], maps[2])
    torch.testing.assert_close(early[1], maps[1])
    assert rows[0].shape == (1, 4, 512)


# --- heads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["poolformer_s12", "convformer_s18"])
def test_no_classes_means_pooled_features(name):
    model = create_model(name, num_classes=0).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, 512)
    assert model.num_classes == 0


@pytest.mark.parametrize("name", ["poolformer_s12", "caformer_s18"])
def test_a_reset_head_is_fresh_and_the_rest_stays(name):
    model = create_model(name, num_classes=7)
    body = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    model.reset_classifier(3)
    assert model.num_classes == model.spec.num_classes == 3
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 3)
    assert all(torch.equal(body[k], v) for k, v in model.backbone.state_dict().items())
    model.reset_classifier(0)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 512)
    model.reset_classifier(5)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_timm_head_moves_the_norm_behind_the_pooling(pools):
    other = create_model("poolformer_s12", num_classes=10, timm_head=True)
    assert isinstance(other.head.pre_norm, nn.Identity)
    assert isinstance(other.head.norm, nn.LayerNorm)
    assert count_parameters(other) == count_parameters(pools)


def test_dropout_stands_right_before_the_last_layer():
    model = create_model("caformer_s18", drop_rate=0.4)
    assert isinstance(model.head.hidden.drop, nn.Dropout)
    assert model.head.hidden.drop.p == 0.4
    assert model.head_hidden_size == 2048


# --- initialization ---------------------------------------------------------------------------------------------


def test_the_first_paper_leaves_its_convolutions_as_torch_makes_them():
    # facts: original stem std 0.048, downsampling 0.024; the second paper draws everything from 0.02
    original = dict(create_model("poolformer_s12").named_parameters())
    assert original["backbone.stages.0.embed.conv.weight"].std().item() == pytest.approx(0.048, abs=0.002)
    assert original["backbone.stages.1.embed.conv.weight"].std().item() == pytest.approx(0.024, abs=0.001)
    assert original["backbone.stages.3.blocks.0.mlp.fc1.weight"].std().item() == pytest.approx(0.02, abs=0.001)
    second = dict(create_model("poolformerv2_s12").named_parameters())
    assert second["backbone.stages.0.embed.conv.weight"].std().item() == pytest.approx(0.02, abs=0.001)
    assert second["backbone.stages.0.embed.conv.bias"].abs().sum() == 0


@pytest.mark.parametrize(("name", "value"), [("poolformer_s24", 1e-5), ("poolformer_s36", 1e-6)])
def test_layer_scale_starts_by_depth(name, value):
    scale = dict(create_model(name).named_parameters())["backbone.stages.0.blocks.0.branch1.layer_scale.scale"]
    torch.testing.assert_close(scale, torch.full((64,), value))


def test_res_scale_stands_in_the_last_two_stages_only():
    names = [n for n, _ in create_model("caformer_s18").named_parameters() if "skip" in n]
    assert {re.match(r"backbone\.stages\.(\d)", n)[1] for n in names} == {"2", "3"}
    assert not any("layer_scale" in n for n, _ in create_model("caformer_s18").named_parameters())


# --- training conveniences --------------------------------------------------------------------------------------


def test_gradient_checkpointing_changes_nothing_but_memory():
    model = randomize(create_model("poolformer_s12", num_classes=4))
    x = torch.randn(2, 3, 64, 64)
    model(x).square().sum().backward()
    plain = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    model.set_grad_checkpointing()
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[name])


def test_layer_groups_run_from_the_stem_to_the_head():
    model = create_model("poolformer_s12", num_classes=4)
    groups = param_groups_layer_decay(model, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay())
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    named = {name: scale[id(p)] for name, p in model.named_parameters()}
    assert named["head.fc.weight"] == 1.0
    assert named["backbone.stages.3.blocks.1.mlp.fc1.weight"] == 0.5
    order = [
        "backbone.stages.0.embed.conv.weight",
        "backbone.stages.0.blocks.0.mlp.fc1.weight",
        "backbone.stages.1.blocks.0.mlp.fc1.weight",
        "backbone.stages.2.blocks.5.mlp.fc1.weight",
        "head.fc.weight",
    ]
    assert [named[n] for n in order] == sorted(named[n] for n in order)
    assert len({named[n] for n in order}) == 5


def test_position_tables_and_prefix_tokens_do_not_decay(hybrid):
    assert hybrid.no_weight_decay() == {"backbone.stages.2.position.table"}


def test_the_preprocessing_config_is_what_timm_reads(pools):
    config = pools.pretrained_cfg
    assert config["input_size"] == (3, 224, 224)
    assert (config["crop_pct"], config["interpolation"]) == (0.9, "bicubic")
    modules = dict(pools.named_modules())
    assert config["first_conv"] in modules
    assert config["classifier"] in modules


# --- mixers of one's own, and other frames ----------------------------------------------------------------------


class Mean(nn.Module):
    """Every token hears the mean of all."""

    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x, grid, mask=None):
        return self.proj(x.mean(1, keepdim=True)).expand_as(x)


@pytest.mark.parametrize(
    "mixers",
    [
        Mean,
        [
            Mean,
            "pooling",
            lambda dim: OnMap(nn.Conv2d(dim, dim, 3, padding=1, groups=dim)),
            ("attention", {"heads": 8}),
        ],
        "depthwise_conv",
        ["pooling(kernel=5)"],
    ],
)
@pytest.mark.parametrize("name", ["poolformer_s12", "caformer_s18"])
def test_any_mixer_in_any_frame_forward_and_backward(name, mixers):
    model = create_model(name, mixers=mixers, num_classes=3)
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_mixer_that_changes_the_shape_is_named_with_its_stage():
    with pytest.raises(SpecError, match=r"stages\[0\].mixer: Linear failed|must keep the shape"):
        create_model("poolformer_s12", mixers=lambda dim: nn.Linear(dim, 2 * dim))


def isotropic(**head):
    """A frame in the manner of ViT: patches, a class token, a position table, attention."""
    stage = StageSpec(
        depth=3,
        width=32,
        embedding=EmbeddingSpec(kernel=8, stride=8, padding=0),
        mixer=MixerSpec(name="attention", args={"heads": 4, "qkv_bias": True}),
        position=True,
        prefix_tokens=2,
    )
    return ModelSpec(stages=(stage,), head=HeadSpec(**head), img_size=(32, 32), num_classes=6)


@pytest.mark.parametrize("head", [{"readout": "token"}, {"readout": "token", "kind": "averaged"}, {"readout": "mean"}])
def test_prefix_tokens_positions_and_readouts(head):
    model = build(isotropic(**head)).eval()
    with torch.no_grad():
        x = torch.randn(2, 3, 32, 32)
        assert model(x).shape == (2, 6)
        torch.testing.assert_close(model.forward_head(model.forward_features(x)), model(x))
        assert model(torch.randn(2, 3, 48, 40)).shape == (2, 6)
        maps = model.forward_intermediates(x, indices=[0, 2], intermediates_only=True)
    assert [tuple(m.shape) for m in maps] == [(2, 32, 4, 4)] * 2
    assert model.no_weight_decay() == {"backbone.stages.0.position.table", "backbone.stages.0.prefix.tokens"}


def test_patch_merging_joins_two_by_two_and_pads_an_odd_side():
    merge = MergeEmbedding(4, 8, norm=nn.Identity())
    y, grid, _ = merge(torch.randn(2, 35, 4), (5, 7))
    assert (tuple(y.shape), grid) == ((2, 12, 8), (3, 4))
    nn.init.eye_(merge.reduction.weight)
    first = merge(torch.arange(16.0).reshape(1, 4, 4), (2, 2))[0][0, 0]
    torch.testing.assert_close(first, torch.tensor([0.0, 1, 2, 3, 8, 9, 10, 11]))


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"unknown model 'poolfromer_s12'. Did you mean 'poolformer_s12'"):
        create_model("poolfromer_s12")
    with pytest.raises(SpecError, match=r"mixers\[0\]|stages\[0\].mixer: unknown mixer 'atention'. Did you mean"):
        create_model("poolformer_s12", mixers="atention")
