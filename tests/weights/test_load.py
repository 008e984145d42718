"""Loading into a model that is not quite the checkpoint's: what is adapted, what stays fresh, what is refused."""

import pytest
import torch
from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torch.nn import functional as F

import metaformer
from metaformer.errors import WeightsError
from metaformer.spec.mixer import MixerSpec
from metaformer.weights.download import HUB_ID
from metaformer.weights.identify import look_alikes
from metaformer.weights.load import load_pretrained, load_weights
from metaformer.weights.match_tensors import for_channels
from metaformer.weights.translate import to_layout
from metaformer.zoo import pvt, swin, vit

from .conftest import randomized, text_spec


def test_everything_is_copied_and_counted(tiny) -> None:
    model, other = tiny(), tiny()
    report = load_weights(other, model.state_dict())
    assert report.loaded == len(model.state_dict())
    assert "tensors loaded (layout: metaformer)" in report.message
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(images), other(images))


def test_a_head_for_other_classes_is_left_fresh_and_reported(tiny) -> None:
    published, model = tiny(), tiny(num_classes=7)
    initial = model.head.fc.weight.clone()
    report = load_weights(model, to_layout(published, "timm"))
    assert report.fresh == ("head.fc.weight", "head.fc.bias")
    assert "other classes" in report.message
    assert torch.equal(model.head.fc.weight, initial)
    assert torch.equal(model.backbone.stages[0].embed.conv.weight, published.backbone.stages[0].embed.conv.weight)


def test_only_the_last_layer_of_an_mlp_head_is_left_fresh() -> None:
    state = metaformer.create_model("caformer_s18").state_dict()
    model = metaformer.create_model("caformer_s18", num_classes=3)
    assert load_weights(model, state).fresh == ("head.fc.weight", "head.fc.bias")
    assert torch.equal(model.head.hidden.fc1.weight, state["head.hidden.fc1.weight"])


def test_between_with_and_without_a_head(tiny) -> None:
    full, headless = tiny(), tiny(num_classes=0)
    report = load_weights(headless, full.state_dict())
    assert report.left_out == ("head.fc.weight", "head.fc.bias")
    again = load_weights(tiny(), headless.state_dict())
    assert again.fresh == ("head.fc.weight", "head.fc.bias")


def test_a_feature_extractor_leaves_out_what_it_lacks(tiny) -> None:
    full, features = tiny(), tiny(features_only=True, out_indices=(0, 1))
    report = load_weights(features, to_layout(full, "official"))
    assert report.loaded == sum(
        name.startswith(("backbone.stages.0", "backbone.stages.1")) for name in full.state_dict()
    )
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(features(images)[1], full.forward_intermediates(images, intermediates_only=True)[1])


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_first_convolutions_are_adapted_as_timm_does(channels: int) -> None:
    kernel = torch.randn(8, 3, 7, 7)
    torch.testing.assert_close(for_channels(kernel, channels), adapt_input_conv(channels, kernel))


def test_a_gray_image_is_seen_as_the_same_image_in_colors(tiny) -> None:
    color, gray = tiny(), tiny(in_chans=1)
    report = load_weights(gray, color.state_dict())
    assert report.adapted == ("the first convolution from 3 to 1 channels",)
    image = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(gray(image), color(image.expand(-1, 3, -1, -1)))


def test_position_tables_are_resampled(tiny_hybrid) -> None:
    small, large = tiny_hybrid(), tiny_hybrid(img_size=128)
    with torch.no_grad():
        small.backbone.stages[3].position.table.fill_(0.25)
    for layout in ("official", "metaformer"):
        report = load_weights(large, to_layout(small, layout))
        assert report.adapted == ("backbone.stages.3.position.table from 4 to 16 positions",)
        table = large.backbone.stages[3].position.table
        torch.testing.assert_close(table, torch.full((1, 16, 16), 0.25))


def test_resampled_on_loading_or_on_the_way_is_the_same(tiny_hybrid) -> None:
    small, large = tiny_hybrid(), tiny_hybrid(img_size=128)
    load_weights(large, small.state_dict())
    images = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(large(images), small(images))


@pytest.mark.parametrize(("prefix", "layout"), [(1, "timm"), (1, "huggingface"), (2, "timm"), (2, "metaformer")])
def test_positions_of_prefix_tokens_are_kept_and_the_others_resampled_as_timm_does(prefix: int, layout: str) -> None:
    spec = vit.vit_frame(1, 16, 2, prefix_tokens=prefix, side=64)
    small, large = metaformer.create_model(spec), metaformer.create_model(spec, img_size=96)
    table = small.backbone.stages[0].position.table
    with torch.no_grad():
        table.normal_()
    report = load_weights(large, to_layout(small, layout))
    assert report.adapted == (f"backbone.stages.0.position.table from {16 + prefix} to {36 + prefix} positions",)
    expected = resample_abs_pos_embed(table.detach(), new_size=[6, 6], num_prefix_tokens=prefix)
    torch.testing.assert_close(large.backbone.stages[0].position.table, expected, rtol=0, atol=1e-6)


def test_tables_of_every_stage_are_resampled_bilinearly_in_pvt() -> None:
    spec = pvt.pvt_frame((1, 1, 1, 1))
    small, large = (metaformer.create_model(spec, img_size=side) for side in (64, 96))
    for stage in small.backbone.stages:
        torch.nn.init.normal_(stage.position.table)
    report = load_weights(large, to_layout(small, "official"))
    assert [sentence.split(" from ")[1] for sentence in report.adapted] == [
        "256 to 576 positions",
        "64 to 144 positions",
        "16 to 36 positions",
        "5 to 10 positions",
    ]
    before, after = (model.backbone.stages[3].position.table.detach() for model in (small, large))
    assert torch.equal(after[:, :1], before[:, :1])
    resized = F.interpolate(before[:, 1:].transpose(1, 2).reshape(1, 512, 2, 2), size=(3, 3), mode="bilinear")
    torch.testing.assert_close(after[:, 1:], resized.flatten(2).transpose(1, 2))


def test_a_shorter_sequence_takes_the_first_positions_and_a_longer_one_is_refused(tmp_path) -> None:
    long, short = metaformer.build(text_spec(1024)), metaformer.build(text_spec(16))
    path = metaformer.save_weights(randomized(long), tmp_path / "text.safetensors")
    ids = torch.randint(50, (2, 16))
    assert torch.equal(metaformer.load_model(path)(ids), long(ids))
    assert load_weights(short, path).adapted == ("backbone.stages.0.position.table from 1024 to 16 positions",)
    assert torch.equal(short.eval()(ids), long(ids))
    with pytest.raises(WeightsError, match=r"position\.table is \(1, 16, 8\) in the checkpoint and \(1, 1024, 8\)"):
        load_weights(long, short.state_dict())


FIXED_GRIDS = ("metaformer_pppf_s12_224", "randformer_s12", "mixer_s16_224", "resmlp_12_224", "gmlp_ti16_224")


@pytest.mark.parametrize("name", FIXED_GRIDS)
def test_a_matrix_over_another_grid_names_the_image_size(name: str) -> None:
    with torch.device("meta"):
        state = metaformer.create_model(name).state_dict()
        model = metaformer.create_model(name, img_size=256)
    with pytest.raises(WeightsError, match=r"cannot be resampled.*img_size=224"):
        load_weights(model, state)


@pytest.mark.parametrize(
    ("inner", "shift", "what"),
    [(swin.ATTENTION, "roll", "table"), (MixerSpec(name="spatial_fc", args={"bias": True}), "pad", "matrix")],
)
def test_what_is_made_for_another_window_is_refused_with_the_window(inner: MixerSpec, shift: str, what: str) -> None:
    with torch.device("meta"):
        seven, eight = (
            metaformer.create_model(swin.swin_frame((2, 2), 32, (swin.in_windows(inner, window, shift),) * 2))
            for window in (7, 8)
        )
    message = rf"made for windows of 7×7 tokens, the model's are 8×8: a {what} over a window .* window=7\)"
    for layout in ("official", "metaformer"):
        with pytest.raises(WeightsError, match=message):
            load_weights(eight, to_layout(seven, layout))


def test_patches_of_another_size_are_refused() -> None:
    with torch.device("meta"):
        fine = metaformer.create_model("resmlp_big_24_224").state_dict()
        coarse = metaformer.create_model("resmlp_big_24_patch16_224")
    with pytest.raises(WeightsError) as caught:
        load_weights(coarse, fine)
    assert "made for patches of 8×8 pixels, the model's are 16×16: kernels are not resampled" in str(caught.value)
    assert "looks like resmlp_big_24_224: create_model('resmlp_big_24_224', weights=...)" in str(caught.value)


def test_a_position_table_for_coarser_patches_is_not_taken_alone() -> None:
    coarse, fine = (
        metaformer.create_model(
            vit.vit_frame(1, 16, 2).with_changes(stages=(stage.with_changes(embedding=vit.patches(n)),))
        )
        for n in (32, 16)
        for stage in vit.vit_frame(1, 16, 2).stages
    )
    before = fine.backbone.stages[0].position.table.clone()
    with pytest.raises(WeightsError, match=r"made for patches of 32×32 pixels, the model's are 16×16"):
        load_weights(fine, to_layout(coarse, "timm"))
    assert torch.equal(fine.backbone.stages[0].position.table, before)


LOOK_ALIKES = {
    "vit_base_patch16_384": ["vit_base_patch16_384", "vit_base_patch16_224", "deit_base_patch16_224"],
    "deit_tiny_distilled_patch16_224": ["deit_tiny_distilled_patch16_224"],
    "pvt_small": ["pvt_small"],
    "mixer_b16_224": ["mixer_b16_224"],
    "resmlp_24_224": ["resmlp_24_224"],
    "gmlp_s16_224": ["gmlp_s16_224"],
    "fnet_small_patch16_224": ["fnet_small_patch16_224"],
    "swin_tiny_patch4_window7_224": ["swin_tiny_patch4_window7_224"],
    "swin_mlp_tiny_c12_patch4_window8_256": ["swin_mlp_tiny_c12_patch4_window8_256"],
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_the_compared_systems_are_recognized_by_their_weights(name: str) -> None:
    with torch.device("meta"):
        other = metaformer.create_model(name).state_dict()
        model = metaformer.create_model("deit_small_patch16_224")
    assert look_alikes(other) == LOOK_ALIKES[name]
    with pytest.raises(WeightsError, match=f"looks like {' or '.join(LOOK_ALIKES[name])}: create_model\\('{name}'"):
        load_weights(model, other)


def test_a_changed_model_is_not_said_to_look_like_itself() -> None:
    """DeiT-B and ViT-B have the same shapes: naming the one would not help who changed the other."""
    with torch.device("meta"):
        state = metaformer.create_model("vit_base_patch16_224").state_dict()
        model = metaformer.create_model("vit_base_patch16_224", mixers="pooling")
    with pytest.raises(WeightsError, match="unexpected in the checkpoint") as caught:
        load_weights(model, state)
    assert "looks like" not in str(caught.value)


def test_buffers_that_follow_from_the_window_are_not_needed() -> None:
    spec = swin.swin_frame((2, 2), 32, (swin.in_windows(swin.ATTENTION, 7, "roll"),) * 2)
    model = metaformer.create_model(spec)
    state = to_layout(model, "official")
    buffers = ("layers.0.blocks.0.attn.relative_position_index", "layers.0.blocks.1.attn_mask")
    report = load_weights(model, state | {name: torch.zeros(49, 49) for name in buffers})
    assert report.left_out == buffers
    assert report.loaded == len(state)


def test_a_missing_part_is_named() -> None:
    model = metaformer.create_model(vit.vit_frame(1, 16, 2, prefix_tokens=2, side=32))
    state = to_layout(model, "huggingface")
    del state["deit.encoder.layer.0.attention.attention.key.weight"]
    with pytest.raises(WeightsError) as caught:
        load_weights(model, state)
    assert "missing in the checkpoint: backbone.stages.0.blocks.0.mixer.qkv.weight" in str(caught.value)
    assert "deit.encoder.layer.0.attention.attention.query.weight" in str(caught.value)


UNPUBLISHED = {
    "vit_base_patch16_224": "create_model('vit_base_patch16_224', weights='timm/vit_base_patch16_224.augreg_in1k')",
    "gmlp_ti16_224": "create_model('gmlp_s16_224', pretrained=True)",
    "resmlp_big_24_patch16_224": "create_model('resmlp_big_24_224', pretrained=True)",
    "mixer_s16_224": "create_model('mixer_b16_224', pretrained=True)",
    "fnet_small_patch16_224": "Nor were any for a similar model: train it, or pass weights=PATH",
}


@pytest.mark.parametrize("name", UNPUBLISHED)
def test_without_weights_of_its_own_the_nearest_are_named(name: str) -> None:
    with torch.device("meta"):
        model = metaformer.create_model(name)
    with pytest.raises(WeightsError) as caught:
        load_pretrained(model)
    message = str(caught.value)
    assert message.startswith(f"{name}: no weights of its own were published. {metaformer.find(name).note}")
    assert message.endswith(UNPUBLISHED[name])


def test_every_model_without_weights_names_a_published_one() -> None:
    rows = [metaformer.find(name) for name in metaformer.list_models()]
    for row in rows:
        assert not (row.weights and row.nearest)
        if row.nearest:
            assert HUB_ID.fullmatch(row.nearest)
            relative = metaformer.find(row.nearest.removeprefix("timm/").partition(".")[0])
            assert relative is row or relative.weights


def test_another_model_is_named_and_nothing_is_copied() -> None:
    with torch.device("meta"):
        other = metaformer.create_model("caformer_s18").state_dict()
    model = metaformer.create_model("poolformer_s12")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(model, other)
    message = str(caught.value)
    assert "does not fit poolformer_s12" in message
    assert "backbone.stages.0.embed.post_norm.weight" in message
    assert "missing in the checkpoint" in message
    assert "more" in message
    assert "looks like caformer_s18" in message
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_another_size_shows_both_shapes() -> None:
    with torch.device("meta"):
        other = metaformer.create_model("poolformer_m36")
        model = metaformer.create_model("poolformer_s36")
    message = r"stages\.0\.embed\.conv\.weight is \(96, 3, 7, 7\) in the checkpoint and \(64, 3, 7, 7\) in the model"
    with pytest.raises(WeightsError, match=message):
        load_weights(model, other.state_dict())


def test_unexpected_names_are_shown_as_the_checkpoint_has_them(tiny) -> None:
    state = to_layout(tiny(), "timm")
    state["stages.0.blocks.0.extra.weight"] = torch.zeros(1)
    del state["head.norm.bias"]
    with pytest.raises(WeightsError) as caught:
        load_weights(tiny(), state)
    assert "missing in the checkpoint: head.pre_norm.bias" in str(caught.value)
    assert "unexpected in the checkpoint: stages.0.blocks.0.extra.weight" in str(caught.value)


def test_not_strict_takes_what_fits_and_reports_the_rest(tiny) -> None:
    state = tiny().state_dict()
    state["surplus"] = state.pop("head.pre_norm.bias")
    model = tiny()
    report = load_weights(model, state, strict=False)
    assert report.missing == ("head.pre_norm.bias",)
    assert report.unexpected == ("surplus",)
    assert torch.equal(model.head.pre_norm.weight, state["head.pre_norm.weight"])


def test_half_precision_checkpoints_fill_full_precision_models(tiny) -> None:
    model = tiny()
    other = tiny()
    load_weights(other, {name: value.bfloat16() for name, value in model.state_dict().items()})
    assert other.head.fc.weight.dtype == torch.float32
    torch.testing.assert_close(other.head.fc.weight, model.head.fc.weight.bfloat16().float())


def test_create_model_takes_weights(tiny, tmp_path) -> None:
    model = tiny()
    path = tmp_path / "weights.pth"
    torch.save(to_layout(model, "official"), path)
    other = metaformer.create_model(model.spec, weights=path)
    assert torch.equal(other.head.fc.weight, model.head.fc.weight)
