"""Names and shapes of published layouts: there and back is the start, and wrappers make no difference."""

import pytest
import torch

import metaformer
from metaformer.errors import WeightsError
from metaformer.spec.mixer import MixerSpec
from metaformer.weights.layouts import LAYOUTS, recognize
from metaformer.weights.load import load_weights
from metaformer.weights.read_checkpoint import unwrap
from metaformer.weights.rename import layout_for, our_names, their_names
from metaformer.weights.split_tensors import join_parts, split_part
from metaformer.weights.translate import to_layout
from metaformer.zoo import mlp, pvt, swin, vit

from .conftest import randomized

HEADS = MixerSpec(name="spatial_fc", args={"heads": 4, "bias": True})
FIRST = ("poolformer_s12", "metaformer_id_s12", "metaformer_pppa_s12_224", "metaformer_ppaa_s12_224")
FIRST += ("metaformer_pppf_s12_224", "metaformer_ppff_s12_224")
SECOND = ("identityformer_s12", "randformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18")
CASES = [(name, "official-v1") for name in FIRST]
CASES += [(name, layout) for name in SECOND for layout in ("official-v2", "timm")]
CASES += [("poolformer_s12", layout) for layout in ("timm", "huggingface", "mmpretrain", "metaformer")]
PLAIN = ("vit_base_patch16_224", "deit_tiny_patch16_224", "mixer_s16_224", "resmlp_12_224", "gmlp_ti16_224")
DISTILLED, SWIN = "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224"
SWIN_MIXER = "swin_mlp_tiny_c24_patch4_window8_256"
CASES += [(name, "timm") for name in (*PLAIN, DISTILLED, SWIN)]
CASES += [(name, "huggingface") for name in ("vit_base_patch16_224", DISTILLED, SWIN, "pvt_tiny")]
CASES += [("resmlp_12_224", "official-resmlp"), (SWIN, "official-swin"), (SWIN_MIXER, "official-swin-mixer")]
CASES += [("pvt_tiny", "official-pvt"), (SWIN_MIXER, "metaformer")]
OFFICIAL = dict(CASES[: len(FIRST)]) | dict.fromkeys(SECOND, "official-v2") | dict.fromkeys(PLAIN, "timm")
OFFICIAL |= {"resmlp_12_224": "official-resmlp", SWIN: "official-swin", SWIN_MIXER: "official-swin-mixer"}
OFFICIAL |= {"pvt_tiny": "official-pvt", DISTILLED: "timm"}


def names_of(model_name: str) -> list[str]:
    with torch.device("meta"):
        return list(metaformer.create_model(model_name).state_dict())


@pytest.mark.parametrize(("model_name", "layout_name"), CASES)
def test_names_there_and_back(model_name: str, layout_name: str) -> None:
    names = names_of(model_name)
    layout = layout_for(layout_name, names)
    there = their_names(layout, names)
    assert len(set(there.values())) == len(there) >= len(names)
    assert recognize(there.values()) is layout
    back = our_names(layout, there.values())
    for ours, theirs in there.items():
        assert back[theirs].replace("final_norm", "pre_norm") == ours.replace("head.norm", "head.pre_norm")


@pytest.mark.parametrize(("model_name", "layout_name"), OFFICIAL.items())
def test_official_is_the_authors_own(model_name: str, layout_name: str) -> None:
    assert layout_for("official", names_of(model_name)).name == layout_name


def test_names_of_transformers_fifth_version_are_known_as_well() -> None:
    names = [f"vit.layers.3.attention.{part}_proj.weight" for part in "qkvo"]
    layout = recognize(["vit.layers.0.attention.q_proj.weight", *names])
    block = "backbone.stages.0.blocks.3.mixer"
    assert list(our_names(layout, names).values()) == [
        f"{block}.qkv.weight#0/3",
        f"{block}.qkv.weight#1/3",
        f"{block}.qkv.weight#2/3",
        f"{block}.proj.weight",
    ]


def test_a_downsampling_at_a_stages_end_is_the_next_stages_entry() -> None:
    laid_out = {name: their_names(layout_for(name, names_of(SWIN)), names_of(SWIN)) for name in ("official", "timm")}
    ours = "backbone.stages.2.embed.reduction.weight"
    assert laid_out["official"][ours] == "layers.1.downsample.reduction.weight"
    assert laid_out["timm"][ours] == "layers.2.downsample.reduction.weight"


def test_parts_there_and_back() -> None:
    whole = {"a.qkv.weight": torch.randn(6, 4), "stages.0.prefix.tokens": torch.randn(1, 2, 4)}
    parts = {
        f"{name}#{k}/{count}": split_part(f"{name}#{k}/{count}", whole[name])
        for name, count in (("a.qkv.weight", 3), ("stages.0.prefix.tokens", 2))
        for k in range(count)
    }
    assert parts["a.qkv.weight#1/3"].shape == (2, 4)
    assert parts["stages.0.prefix.tokens#1/2"].shape == (1, 1, 4)
    back = join_parts(parts)
    assert all(torch.equal(back[name], value) for name, value in whole.items())
    del parts["a.qkv.weight#1/3"]
    assert set(join_parts(parts)) == {"a.qkv.weight#0/3", "a.qkv.weight#2/3", "stages.0.prefix.tokens"}


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


SYSTEMS = {
    "deit": (vit.vit_frame(2, 16, 2, side=32), ("timm", "huggingface")),
    "distilled": (vit.vit_frame(2, 16, 2, prefix_tokens=2, side=32), ("timm", "huggingface")),
    "pvt": (pvt.pvt_frame((1, 1, 1, 1)).with_changes(img_size=(64, 64)), ("official", "huggingface")),
    "mixer": (mlp.mixer_frame(2, 16), ("timm",)),
    "resmlp": (mlp.resmlp_frame(2, 16, 0.1), ("official", "timm")),
    "gmlp": (mlp.gmlp_frame(8), ("timm",)),
    "swin": (swin.swin_frame((2, 2), 32, (swin.in_windows(swin.ATTENTION, 4, "roll"),) * 2), ("official", "timm")),
    "swin_mixer": (swin.swin_frame((2, 2), 32, (swin.in_windows(HEADS, 4, "pad"),) * 2), ("official",)),
}


@pytest.mark.parametrize(("system", "layout"), [(name, layout) for name in SYSTEMS for layout in SYSTEMS[name][1]])
def test_weights_of_the_compared_systems_there_and_back(system: str, layout: str) -> None:
    model, other = (randomized(metaformer.create_model(SYSTEMS[system][0], num_classes=3)) for _ in range(2))
    laid_out = to_layout(model, layout)
    assert not set(laid_out) & set(model.state_dict()) - {"head.fc.weight", "head.fc.bias"}
    assert load_weights(other, laid_out).loaded == len(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_shapes_are_those_of_the_published_files() -> None:
    mixer = to_layout(metaformer.create_model(SYSTEMS["swin_mixer"][0]), "official")
    assert mixer["layers.0.blocks.0.spatial_mlp.weight"].shape == (4 * 16, 16, 1)
    assert mixer["layers.0.blocks.0.spatial_mlp.bias"].shape == (4 * 16,)
    resmlp = metaformer.create_model(SYSTEMS["resmlp"][0])
    assert to_layout(resmlp, "timm")["norm.alpha"].shape == (1, 1, 16)
    assert to_layout(resmlp, "official")["norm.alpha"].shape == (16,)
    distilled = to_layout(metaformer.create_model(SYSTEMS["distilled"][0]), "timm")
    assert distilled["dist_token"].shape == (1, 1, 16)
    assert distilled["pos_embed"].shape == (1, 6, 16)


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
    with pytest.raises(WeightsError, match=r"no known layout of a MetaFormer \(layer1\.0\.conv1\.weight"):
        recognize(["layer1.0.conv1.weight", "fc.weight"])


def test_a_file_without_tensors_is_refused(tiny) -> None:
    with pytest.raises(WeightsError, match=r"no weights in it.*epoch"):
        load_weights(tiny(), {"epoch": 3})
