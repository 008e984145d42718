"""Names and shapes of published layouts: there and back is the start, and wrappers make no difference."""

import pytest
import torch

import metaformer
from metaformer.errors import WeightsError
from metaformer.weights.layouts import LAYOUTS, recognise
from metaformer.weights.load import load_weights
from metaformer.weights.naming import our_names, their_names
from metaformer.weights.reading import unwrap
from metaformer.weights.translate import to_layout

FIRST = ("poolformer_s12", "metaformer_id_s12", "metaformer_pppa_s12_224", "metaformer_ppaa_s12_224")
FIRST += ("metaformer_pppf_s12_224", "metaformer_ppff_s12_224")
SECOND = ("identityformer_s12", "randformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18")
CASES = [(name, "official-v1") for name in FIRST]
CASES += [(name, layout) for name in SECOND for layout in ("official-v2", "timm")]
CASES += [("poolformer_s12", layout) for layout in ("timm", "huggingface", "mmpretrain", "metaformer")]


def names_of(model_name: str) -> list[str]:
    with torch.device("meta"):
        return list(metaformer.create_model(model_name).state_dict())


@pytest.mark.parametrize(("model_name", "layout_name"), CASES)
def test_names_there_and_back(model_name: str, layout_name: str) -> None:
    layout = next(layout for layout in LAYOUTS if layout.name == layout_name)
    there = their_names(layout, names_of(model_name))
    assert len(set(there.values())) == len(there)
    assert recognise(there.values()).name == layout_name
    back = our_names(layout, there.values())
    for ours, theirs in there.items():
        assert back[theirs].replace("final_norm", "pre_norm") == ours.replace("head.norm", "head.pre_norm")


def test_a_position_table_shifts_the_running_number() -> None:
    layout = next(layout for layout in LAYOUTS if layout.name == "official-v1")
    pppa = set(their_names(layout, names_of("metaformer_pppa_s12_224")).values())
    assert {"network.6.pos_embed", "network.7.0.token_mixer.qkv.weight", "network.5.proj.weight"} <= pppa
    ppaa = set(their_names(layout, names_of("metaformer_ppaa_s12_224")).values())
    assert {"network.4.pos_embed", "network.5.0.norm1.weight", "network.6.proj.bias", "network.7.0.norm1.bias"} <= ppaa


@pytest.mark.parametrize("layout", ["official", "timm", "huggingface", "mmpretrain", "metaformer"])
def test_weights_there_and_back(tiny, layout: str) -> None:
    model, other = tiny(), tiny()
    report = load_weights(other, to_layout(model, layout))
    assert report.layout.startswith(layout)
    assert report.loaded == len(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_position_tables_there_and_back(tiny_hybrid) -> None:
    model, other = tiny_hybrid(), tiny_hybrid()
    laid_out = to_layout(model, "official")
    assert laid_out["network.6.pos_embed"].shape == (1, 16, 2, 2)
    assert laid_out["network.7.0.mlp.fc1.weight"].shape == (64, 16, 1, 1)
    assert laid_out["network.7.0.token_mixer.qkv.weight"].shape == (48, 16)
    load_weights(other, laid_out)
    assert torch.equal(other.backbone.stages[3].position.table, model.backbone.stages[3].position.table)


def test_a_layout_without_a_name_for_a_part_says_so(tiny_hybrid) -> None:
    with pytest.raises(WeightsError, match="position"):
        to_layout(tiny_hybrid(), "huggingface")
    with pytest.raises(WeightsError, match="Did you mean 'timm'"):
        to_layout(tiny_hybrid(), "tim")


def test_wrappers_make_no_difference(tiny) -> None:
    model = tiny()
    state = to_layout(model, "official")
    for wrapped in (
        {"state_dict": state},
        {"model": state, "epoch": 3},
        {"state_dict": {f"module.{name}": value for name, value in state.items()}, "args": None},
        {f"module._orig_mod.{name}": value for name, value in state.items()},
    ):
        other = tiny()
        load_weights(other, wrapped)
        assert torch.equal(other.head.fc.weight, model.head.fc.weight)


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema"])
def test_averaged_weights_are_preferred(averaged: str) -> None:
    state = unwrap({"state_dict": {"a": torch.zeros(1)}, averaged: {"a": torch.ones(1)}}, "here")
    assert state["a"] == 1


def test_our_own_names_fit_either_place_of_the_final_norm(tiny) -> None:
    """The norm before or after the readout has another name but the same weights."""
    before, after = tiny(), tiny(timm_head=True)
    load_weights(after, before.state_dict())
    assert torch.equal(after.head.norm.weight, before.head.pre_norm.weight)


def test_names_of_something_else_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"no MetaFormer layout known here \(layer1\.0\.conv1\.weight"):
        recognise(["layer1.0.conv1.weight", "fc.weight"])


def test_a_file_without_tensors_is_refused(tiny) -> None:
    with pytest.raises(WeightsError, match=r"no weights in it.*epoch"):
        load_weights(tiny(), {"epoch": 3})
