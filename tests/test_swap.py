"""Any mixer in any family's frame: forward, backward, another image size, and features; or the reason why not."""

import re

import pytest
import torch

from metaformer import build, create_model, find, list_models
from metaformer.errors import InputError, SpecError
from metaformer.spec.model import ModelSpec

FRAMES = {
    "PoolFormer": "poolformer_s12",
    "CAFormer": "caformer_s18",
    "DeiT": "deit_tiny_patch16_224",
    "DeiT distilled": "deit_tiny_distilled_patch16_224",
    "PVT": "pvt_tiny",
    "MLP-Mixer": "mixer_s16_224",
    "ResMLP": "resmlp_12_224",
    "gMLP": "gmlp_ti16_224",
    "Fourier": "fnet_small_patch16_224",
    "Swin": "swin_tiny_patch4_window7_224",
    "Swin-Mixer": "swin_mlp_tiny_c24_patch4_window8_256",
}
MIXERS = (
    "identity",
    "pooling",
    "depthwise_conv",
    "separable_conv",
    "attention(head_dim=16)",
    "attention(head_dim=16, relative_position=True)",
    "reduced_attention(ratio=2, head_dim=16)",
    "spatial_fc",
    "spatial_fc(heads=4, bias=True)",
    "spatial_mlp",
    "random",
    "gating_unit",
    "fourier(orthonormal=True)",
    "window(mixer='attention(head_dim=16, relative_position=True)', window=4, shift='roll')",
    "window(mixer='spatial_fc(heads=4)', window=4, shift='pad')",
    "window(mixer='pooling', window=7)",
    "window(mixer='fourier(orthonormal=True)', window=4)",
)
FIXED_GRID = ("spatial_", "random", "gating_unit", "attention(head_dim=16, relative_position")
WITH_PREFIX = ("DeiT", "DeiT distilled", "PVT")
WITHOUT_PREFIX = ("attention(head_dim=16, relative_position=True)", "reduced_attention")


def shallow(spec: ModelSpec) -> ModelSpec:
    """At most two blocks a stage, five classes and images of 64 × 64."""
    stages = tuple(stage.with_changes(depth=min(stage.depth, 2)) for stage in spec.stages)
    return spec.with_changes(stages=stages, num_classes=5, img_size=(64, 64))


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("family", FRAMES)
def test_any_mixer_in_any_frame(family, mixer):
    spec = shallow(find(FRAMES[family]).spec).with_mixers(mixer)
    if family in WITH_PREFIX and mixer.startswith(WITHOUT_PREFIX):
        with pytest.raises(
            SpecError, match=r"stages\[[03]\].mixer.(ratio|relative_position): expected .* prefix tokens"
        ):
            build(spec)
        return
    model = build(spec)
    scores = model(torch.randn(2, 3, 64, 64))
    assert scores.shape == (2, 5)
    scores.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with torch.no_grad():
        assert model.eval()(torch.empty(0, 3, 64, 64)).shape == (0, 5), "a batch may be empty"
    other = torch.randn(1, 3, 96, 64)
    if mixer.startswith(FIXED_GRID):
        with pytest.raises(InputError, match=r"built for \d+×\d+ tokens and got .*img_size="):
            model(other)
    else:
        with torch.no_grad():
            assert model.eval()(other).shape == (1, 5)


@pytest.mark.parametrize(
    ("name", "mixers"),
    [
        ("poolformer_s12", ["pooling", "pooling", "attention", "attention(head_dim=64)"]),
        (
            "caformer_s18",
            ["reduced_attention(ratio=8)", "reduced_attention(ratio=4)", "reduced_attention", "attention"],
        ),
        ("pvt_tiny", ["reduced_attention(ratio=8)", "pooling", "window(mixer='attention', shift='roll')", "fourier"]),
        ("swin_tiny_patch4_window7_224", ["identity", "spatial_fc(heads=3)", "gating_unit", "random"]),
    ],
)
def test_a_mixer_for_each_stage(name, mixers):
    model = build(shallow(find(name).spec).with_mixers(mixers))
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


# --- features ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FRAMES)
def test_every_frame_gives_features(family):
    name = FRAMES[family]
    size = 64 if "window8" not in name else 256
    extractor = create_model(name, img_size=size, features_only=True).eval()
    with torch.no_grad():
        maps = extractor(torch.randn(1, 3, size, size))
    info = extractor.feature_info
    assert [m.shape[1] for m in maps] == info.channels()
    assert [size // m.shape[2] for m in maps] == info.reduction()
    pyramid = len(extractor.spec.stages) > 1
    assert info.reduction() == ([4, 8, 16, 32] if pyramid else [16, 16, 16])


VARIANTS = ("_384", "_in21k", "_in21ft1k")
"""ConvFormer's and CAFormer's other sizes and weights, which are the same frames."""


@pytest.mark.parametrize("name", [name for name in list_models() if not name.endswith(VARIANTS)])
def test_every_row_gives_features(name):
    with torch.device("meta"):
        extractor = create_model(name, features_only=True).eval()
    height, width = extractor.spec.img_size
    with torch.no_grad():
        maps = extractor(torch.empty(1, 3, height, width, device="meta"))
    info = extractor.feature_info
    assert [m.shape[1] for m in maps] == info.channels()
    assert [height // m.shape[2] for m in maps] == info.reduction()


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "mixer_s16_224", "fnet_small_patch16_224"])
def test_features_of_chosen_depths(name):
    model = create_model(name, img_size=64).eval()
    depth = model.spec.stages[0].depth
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        final, everything = model.forward_intermediates(images)
        few = model.forward_intermediates(images, indices=[1, 3], stop_early=True, intermediates_only=True)
        extractor = create_model(name, img_size=64, features_only=True, out_indices=(1, 3)).eval()
        extractor.backbone.load_state_dict(
            {key: value for key, value in model.backbone.state_dict().items() if key in extractor.backbone.state_dict()}
        )
        extracted = extractor(images)
        normed = model.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[0]
    assert len(everything) == len(model.feature_info) == depth
    assert model.feature_info.module_name(2) in dict(model.named_modules())
    assert [part["index"] for part in extractor.feature_info] == [1, 3]
    assert len(extractor.backbone.stages[0].blocks) == 4
    for k, index in enumerate((1, 3)):
        torch.testing.assert_close(few[k], everything[index])
        torch.testing.assert_close(extracted[k], everything[index])
    torch.testing.assert_close(model.forward_features(images), final)
    if not model.num_prefix_tokens:
        torch.testing.assert_close(final, everything[-1])
        torch.testing.assert_close(model.head.fc(normed.mean((2, 3))), model(images))


def test_positions_prefix_tokens_and_relative_positions_do_not_decay():
    swin = create_model("swin_tiny_patch4_window7_224")
    assert len(swin.no_weight_decay()) == 12
    assert all(name.endswith("mixer.mixer.relative.table") for name in swin.no_weight_decay())
    assert create_model("deit_tiny_patch16_224").no_weight_decay() == {
        "backbone.stages.0.position.table",
        "backbone.stages.0.prefix.tokens",
    }


def test_a_name_with_its_arguments_is_one_mixer():
    model = create_model("pvt_tiny", img_size=64, mixers=("attention", {"head_dim": 16}), num_classes=2)
    assert [stage.mixer.args for stage in model.spec.stages] == [{"head_dim": 16}] * 4
    with pytest.raises(SpecError, match="mixers: expected 1 mixer: the model has a single stage, got 2"):
        create_model("deit_tiny_patch16_224", mixers=["pooling", "attention"])


def test_no_classes_means_one_vector_for_two_prefix_tokens_too():
    model = create_model("deit_tiny_distilled_patch16_224", img_size=64, num_classes=3).eval()
    images = torch.randn(2, 3, 64, 64)
    model.reset_classifier(0)
    with torch.no_grad():
        both = model.forward_head(model.forward_features(images), pre_logits=True)
        assert both.shape == (2, 2, 192)
        torch.testing.assert_close(model(images), both.mean(1))


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "pvt_tiny", "resnet18"])
def test_stopping_early_leaves_the_rest_out_of_the_final_features_too(name):
    model = create_model(name, img_size=64).eval()
    with torch.no_grad():
        final, maps = model.forward_intermediates(torch.randn(1, 3, 64, 64), indices=[1], stop_early=True)
    last = final[:, 1:].transpose(1, 2).unflatten(-1, (4, 4)) if name.startswith("deit") else final
    torch.testing.assert_close(last, maps[0])


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "pvt_tiny", "resnet18"])
@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (("0",), r"indices: expected integers such as \(0, \d+\), got \('0',\)"),
        ("1", r"indices: expected integers such as \(0, \d+\), got '1'"),
        ((1.5,), r"expected integers"),
        ((True,), r"expected integers"),
        (99, r"indices: a number means the last so many: expected 1 to \d+, got 99"),
        (0, r"the last so many: expected 1 to \d+, got 0"),
        ((99,), r"indices: expected 0 to \d+, got 99"),
        ((), r"indices: expected at least one of 0 to \d+, got none"),
    ],
)
def test_indices_that_name_no_map_are_refused(name, indices, message):
    with pytest.raises(InputError, match=message):
        create_model(name, features_only=True, out_indices=indices)


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "poolformer_s12", "resnet18"])
@pytest.mark.parametrize("features_only", [False, True])
def test_what_is_no_batch_of_images_is_refused(name, features_only):
    model = create_model(name, features_only=features_only)
    with pytest.raises(InputError, match=r"images: expected \(batch, 3, height, width\), got \(3, 64, 64\)"):
        model(torch.randn(3, 64, 64))
    with pytest.raises(InputError, match=r"got \(1, 1, 64, 64\); create_model\(..., in_chans=...\)"):
        model(torch.randn(1, 1, 64, 64))
    with pytest.raises(InputError, match=r"expected floating-point numbers, got torch.uint8"):
        model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_indices_without_features_are_refused():
    with pytest.raises(InputError, match=r"out_indices: expected features_only=True"):
        create_model("pvt_tiny", out_indices=(1,))


# --- what cannot be ---------------------------------------------------------------------------------------------

DEIT = find("deit_tiny_patch16_224").spec
DISTILLED = find("deit_tiny_distilled_patch16_224").spec


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: build(DEIT.with_mixers("reduced_attention(ratio=2)")),
            r"stages[0].mixer.ratio: expected 1 where prefix tokens run along (1 here), got 2",
        ),
        (
            lambda: create_model("pvt_tiny", img_size=96, mixers="window(mixer='pooling', window=8, padding=False)"),
            r"stages[1].mixer.window: 8 does not divide the grid 12×12 and padding is off",
        ),
        (
            lambda: build(find("poolformer_s12").spec.with_mixers("window(mixer='pooling', window=14, padding=False)")),
            r"stages[3].mixer.window: 14 does not divide the grid 7×7 and padding is off",
        ),
        (
            lambda: DISTILLED.with_changes(stages=tuple(s.with_changes(prefix_tokens=1) for s in DISTILLED.stages)),
            r"head.kind: 'averaged' has a linear layer for each of two or more prefix tokens",
        ),
        (
            lambda: DISTILLED.with_changes(head=DISTILLED.head.with_changes(readout="mean")),
            r"expected head.readout='token' and prefix_tokens=2 in a stage, got 'mean' and 2",
        ),
        (
            lambda: DEIT.with_changes(stages=tuple(s.with_changes(prefix_tokens=0) for s in DEIT.stages)),
            r"head.readout: expected a stage with prefix_tokens for 'token', got none",
        ),
        (
            lambda: create_model("pvt_tiny", img_size=48, mixers="reduced_attention(ratio=8)"),
            r"ratio: expected 1 to 6, the shorter side of the grid (6, 6), got 8",
        ),
    ],
)  # fmt: skip
def test_axes_that_exclude_each_other_are_refused_when_built(make, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        make()
