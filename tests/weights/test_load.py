"""Loading into a model that is not quite the checkpoint's: what is adapted, what stays fresh, what is refused."""

import pytest
import torch
from timm.models import adapt_input_conv

import metaformer
from metaformer.errors import WeightsError
from metaformer.weights.fitting import for_channels
from metaformer.weights.load import load_weights
from metaformer.weights.translate import to_layout


def test_everything_is_copied_and_counted(tiny) -> None:
    model, other = tiny(), tiny()
    report = load_weights(other, model.state_dict())
    assert report.loaded == len(model.state_dict())
    assert "tensors loaded (layout: metaformer)" in report.message
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(images), other(images))


def test_a_head_for_other_classes_is_left_fresh_and_said_so(tiny) -> None:
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


def test_a_grey_picture_is_seen_as_the_same_picture_in_colours(tiny) -> None:
    colour, grey = tiny(), tiny(in_chans=1)
    report = load_weights(grey, colour.state_dict())
    assert report.adapted == ("the first convolution from 3 to 1 channels",)
    image = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(grey(image), colour(image.expand(-1, 3, -1, -1)))


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


@pytest.mark.parametrize("name", ["metaformer_pppf_s12_224", "randformer_s12"])
def test_a_matrix_over_another_grid_names_the_picture_size(name: str) -> None:
    with torch.device("meta"):
        state = metaformer.create_model(name).state_dict()
        model = metaformer.create_model(name, img_size=256)
    with pytest.raises(WeightsError, match=r"cannot be resampled.*img_size=224"):
        load_weights(model, state)


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
