"""Weights of timm's CNNs: timm's own files, our files, other classes and channels, wrong models, the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save

import metaformer
from metaformer import InputError, SpecError, WeightsError, create_model, load_model, load_weights, save_weights
from metaformer.inference.loaded import load_any
from metaformer.model.timm_cnn import TimmClassifier
from metaformer.spec.model import TimmSpec
from metaformer.weights.hub import from_pretrained, push_to_hub, save_pretrained
from metaformer.weights.match_tensors import for_channels
from metaformer.weights.translate import to_layout

from .conftest import randomized
from .fake_hub import FakeHub

SMALL = TimmSpec(architecture="test_resnet", num_classes=5, img_size=(64, 64))


def small(**arguments) -> TimmClassifier:
    return randomized(create_model(SMALL, **arguments))  # type: ignore[return-value]


def theirs(**arguments) -> torch.nn.Module:
    return randomized(timm.create_model(SMALL.architecture, **{"num_classes": 5, **arguments}))


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        return torch.equal(one.eval()(images), other.eval()(images))


def test_timms_state_dict_loads_and_goes_back() -> None:
    published, model = theirs(), small()
    report = load_weights(model, published.state_dict())
    assert (report.layout, report.fresh, report.adapted) == ("timm", (), ())
    assert report.loaded == len(published.state_dict())
    assert equal(model, published)
    again = theirs()
    again.load_state_dict(to_layout(model, "timm"))
    assert equal(again, model)
    with pytest.raises(WeightsError, match="mmpretrain"):
        to_layout(model, "mmpretrain")


def test_old_files_lack_the_counters_of_batch_norms() -> None:
    published, model = theirs(), small()
    old = {name: t for name, t in published.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert load_weights(model, old).missing == ()
    assert equal(model, published)


def test_other_classes_leave_the_last_layer_fresh() -> None:
    model = small(num_classes=3)
    last = model.get_classifier().weight.detach().clone()
    report = load_weights(model, theirs().state_dict())
    assert report.fresh == (f"{model.last_layer}.weight", f"{model.last_layer}.bias")
    assert torch.equal(model.get_classifier().weight, last)
    pooled = small(num_classes=0)
    assert load_weights(pooled, theirs().state_dict()).left_out == report.fresh


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_the_first_convolution_is_adapted_to_the_channels(channels: int) -> None:
    published, model = theirs(), small(in_chans=channels)
    assert load_weights(model, published.state_dict()).adapted == (
        f"the first convolution from 3 to {channels} channels",
    )
    kernels = published.state_dict()["conv1.0.weight"], model.state_dict()[f"{model.first_conv}.weight"]
    assert torch.equal(for_channels(kernels[0], channels), kernels[1])
    if channels % 3 and channels > 1:
        return  # one color is repeated more often than the others
    gray = torch.randn(1, 1, 64, 64)  # the same brightness in all channels is answered alike
    with torch.no_grad():
        ours, original = model(gray.expand(-1, channels, -1, -1)), published(gray.expand(-1, 3, -1, -1))
    assert torch.allclose(ours, original, rtol=1e-3, atol=1e-3 * float(original.abs().max()))


def test_weights_of_another_model_are_refused_and_nothing_is_copied() -> None:
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = timm.create_model("resnet18", num_classes=5)
    for state in (other.state_dict(), create_model("poolformer_s12", num_classes=5).state_dict()):
        with pytest.raises(WeightsError, match="does not fit custom"):
            load_weights(model, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for state in (theirs().state_dict(), model.state_dict()):
        with pytest.raises(WeightsError, match="no known layout of a MetaFormer"):
            load_weights(create_model("poolformer_s12"), state)


def test_a_pyramid_takes_the_whole_checkpoint() -> None:
    published = theirs()
    extractor = create_model(SMALL, features_only=True, out_indices=(0, 1))
    report = load_weights(extractor, published.state_dict())
    assert len(report.left_out) + report.loaded == len(published.state_dict())
    assert all(name.startswith(("cnn.layer3", "cnn.layer4", "cnn.fc")) for name in report.left_out)
    with pytest.raises(WeightsError, match=r"unexpected in the checkpoint: layer9\.weight"):
        load_weights(extractor, published.state_dict() | {"layer9.weight": torch.zeros(1)})


def test_a_saved_file_alone_is_enough(tmp_path: Path) -> None:
    model = small(drop_path_rate=0.1, drop_rate=0.2)
    path = save_weights(model, tmp_path / "model.safetensors", classes=("ant", "bee", "cat", "dog", "eel"))
    again = load_model(path)
    assert again.spec == model.spec
    assert equal(again, model)
    assert load_any(path).class_names[2] == "cat"
    assert load_model(path, num_classes=3, img_size=32).spec.img_size == (32, 32)
    with pytest.raises(SpecError, match="no token mixer to swap"):
        load_model(path, mixers="pooling")
    with pytest.raises(InputError, match="drop_path_rule: cannot be changed"):
        load_model(path, drop_path_rule="constant")


def test_folders_and_the_hub(tmp_path: Path, hub: FakeHub) -> None:
    model = small()
    folder = save_pretrained(model, tmp_path / "model")
    assert "The CNN test_resnet of timm for images of 64×64 pixels" in (folder / "README.md").read_text()
    assert TimmSpec.from_dict(json.loads((folder / "config.json").read_text())["metaformer"]) == SMALL
    assert equal(from_pretrained(folder), model)
    push_to_hub(model, "someone/small")
    assert equal(from_pretrained("someone/small"), model)


@pytest.mark.parametrize(("name", "tag"), [("resnet18", "a2_in1k"), ("regnety_040", "pycls_in1k")])
def test_pretrained_takes_the_weights_of_the_rows_tag(name: str, tag: str, hub: FakeHub) -> None:
    published = timm.create_model(name)
    hub.repos[f"timm/{name}.{tag}"] = {"model.safetensors": save(published.state_dict())}
    assert equal(create_model(name, pretrained=True), published)
    assert hub.requests[-1] == f"GET /timm/{name}.{tag}/resolve/main/model.safetensors"
    assert metaformer.find(name).weights[0].repo == f"timm/{name}.{tag}"
