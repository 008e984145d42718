"""Our models inside timm and torch.hub: timm's own tools work on them, and timm's own models stay as they are."""

import runpy
import warnings
from pathlib import Path

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.optim import create_optimizer_v2, param_groups_layer_decay

import metaformer
from metaformer.errors import InputError
from metaformer.factory import timm_bridge as bridge
from metaformer.spec.model import ModelSpec
from metaformer.weights.save import save_weights

OURS = [name for name in metaformer.list_models() if isinstance(metaformer.find(name).spec, ModelSpec)]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _registered() -> None:
    bridge.register()


def test_every_model_is_listed_and_none_of_timms_is_touched() -> None:
    assert set(timm.list_models("mf_*")) == {f"mf_{name}" for name in OURS}
    assert set(timm.list_models("mf_*", pretrained=True)) == {
        f"mf_{name}" for name in OURS if metaformer.find(name).weights
    }
    assert set(metaformer.list_models()) - set(OURS) <= set(timm.list_models()), "what has no mf_ name is timm's own"
    with torch.device("meta"):
        assert type(timm.create_model("poolformer_s12")).__module__ == "timm.models.metaformer"
    assert not set(timm.list_models("metaformer_*"))


def test_registering_again_changes_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bridge.register() == bridge.register()
    assert bridge.__all__ == ["PREFIX", "register"]


def test_timms_arguments_arrive() -> None:
    model = timm.create_model(
        "mf_poolformer_s12", num_classes=7, in_chans=1, drop_path_rate=0.2, drop_rate=0.1, global_pool="avg"
    ).eval()
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 7)
    assert model.spec.drop_path_rate == 0.2
    assert model.spec.head.dropout == 0.1
    assert model.num_classes == 7
    assert model.default_cfg["num_classes"] == 7


def test_features_only_gives_timms_interface() -> None:
    model = timm.create_model("mf_caformer_s18", features_only=True, out_indices=(1, 3)).eval()
    theirs = timm.create_model("caformer_s18", features_only=True, out_indices=(1, 3)).eval()
    images = torch.randn(1, 3, 64, 64)
    assert [m.shape for m in model(images)] == [m.shape for m in theirs(images)]
    assert list(model.feature_info.channels()) == theirs.feature_info.channels()
    assert list(model.feature_info.reduction()) == theirs.feature_info.reduction()
    assert resolve_model_data_config(model)["crop_pct"] == 1.0


@pytest.mark.parametrize("name", ["poolformer_s12", "poolformer_m36", "caformer_s18_384", "metaformer_ppaa_s12_224"])
def test_timm_reads_our_preprocessing(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(f"mf_{name}")
    config, ours = resolve_model_data_config(model), metaformer.find(name).preprocessing
    assert config["input_size"] == (3, *ours.size)
    assert config["crop_pct"] == ours.crop
    assert config["interpolation"] == ours.interpolation
    assert (config["mean"], config["std"]) == (ours.mean, ours.std)
    registered = timm.get_pretrained_cfg(f"mf_{name}")
    assert (registered.input_size, registered.crop_pct) == (config["input_size"], config["crop_pct"])


def test_the_preprocessing_is_timms_where_timm_has_the_model() -> None:
    for name in timm.list_models("*former*_[smb]*"):
        if name in metaformer.list_models():
            theirs, ours = timm.get_pretrained_cfg(name), metaformer.find(name).preprocessing
            assert theirs.crop_pct == ours.crop
            assert theirs.interpolation == ours.interpolation
            assert (theirs.mean, theirs.std) == (ours.mean, ours.std)


def test_layer_decay_follows_the_depth() -> None:
    model = timm.create_model("mf_poolformer_s12")
    groups = param_groups_layer_decay(model, layer_decay=0.5, no_weight_decay_list=model.no_weight_decay())
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    stages = model.backbone.stages
    path = [
        stages[0].embed.conv.weight,
        stages[0].blocks[0].mlp.fc1.weight,
        stages[0].blocks[1].mlp.fc1.weight,
        stages[2].blocks[5].mlp.fc1.weight,
        stages[3].blocks[1].mlp.fc1.weight,
        model.head.fc.weight,
    ]
    scales = [scale[id(parameter)] for parameter in path]
    assert scales == sorted(scales)
    assert len(set(scales)) == len(scales)
    assert scales[-1] == 1.0
    assert len(scale) == len(list(model.parameters()))


def test_timms_optimizers_take_our_models() -> None:
    model = timm.create_model("mf_metaformer_pppa_s12_224")
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.8)
    position = model.backbone.stages[3].position.table
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(position)] == 0.0
    assert decays[id(model.head.fc.weight)] == 0.05


def test_timm_loads_a_file_of_ours(tmp_path: Path) -> None:
    model = timm.create_model("mf_poolformer_s12", num_classes=3)
    path = save_weights(model, tmp_path / "model.safetensors")
    for arguments in (
        {"checkpoint_path": str(path)},
        {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}},
    ):
        again = timm.create_model("mf_poolformer_s12", num_classes=3, **arguments)
        assert torch.equal(again.head.fc.weight, model.head.fc.weight)


@pytest.mark.parametrize("arguments", [{"global_pool": "max"}, {"cache_dir": "x"}, {"pretrained_cfg": {"url": "x"}}])
def test_impossible_arguments_are_refused_with_the_reason(arguments: dict) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        timm.create_model("mf_poolformer_s12", **arguments)


def test_torch_hub_offers_every_model() -> None:
    content = runpy.run_path(str(ROOT / "hubconf.py"))
    entries = {name for name, value in content.items() if callable(value) and not name.startswith("_")}
    assert entries == {*metaformer.list_models(), "create_model", "list_models"}
    assert "create_model" in content["poolformer_s12"].__doc__
    model = torch.hub.load(str(ROOT), "poolformer_s12", source="local", num_classes=4)
    assert model.num_classes == 4
