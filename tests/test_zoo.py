"""Every published row against its exact parameter count and its published multiply-adds."""

from dataclasses import replace

import pytest
import torch

from metaformer import build, count_macs, count_parameters, create_model, list_models
from metaformer.errors import InputError
from metaformer.model.layers import GroupNorm
from metaformer.spec.mixer import MixerSpec
from metaformer.spec.model import AnySpec, NormSpec
from metaformer.zoo.catalogue import CATALOGUE, find

ROWS = list(CATALOGUE.values())


def on_meta(spec: AnySpec):
    with torch.device("meta"):
        return build(spec)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_parameters_are_exact(row):
    assert count_parameters(on_meta(row.spec)) == row.parameters


def unlike(rows):
    """One row for each architecture and size: variants that differ only in their weights are counted once."""
    seen = {}
    for row in rows:
        seen.setdefault(row.spec.to_json(), row)
    return list(seen.values())


FIRST_PAPER = ("PoolFormer", "MetaFormer (first paper)")
BARE = ("IdentityFormer", "RandFormer", "PoolFormerV2")
GROUPED = ("poolformer_", "metaformer_id", "metaformer_pppf", "metaformer_ppff")
MIXED = ("ConvFormer", "CAFormer")
LIBRARY = ("ViT", "DeiT", "PVT", "MLP-Mixer", "ResMLP", "gMLP", "Fourier", "Swin", "Swin-Mixer")
PRODUCTS = ("ResNet (RSB A2)", "ResNeXt", "RegNetY")


def of(families):
    return [row for row in unlike(ROWS) if row.family in families]


def test_every_family_has_a_rule_for_its_macs():
    assert {row.family for row in ROWS} == {*FIRST_PAPER, *BARE, *MIXED, *LIBRARY, *PRODUCTS}


@pytest.mark.parametrize("row", of(LIBRARY), ids=lambda row: row.name)
def test_macs_are_products_and_five_for_each_element_of_a_library_norm(row):
    # ResMLP's affine "norm" is a product of elements, which fvcore does not count
    model = on_meta(row.spec)
    counted = count_macs(model) + 5 * norm_elements(model)
    if row.family == "PVT":  # the original resamples the positions of stages 2 to 4 even at 224 pixels, 4 an element
        counted += 4 * (784 * 128 + 196 * 320 + 49 * 512)
    assert counted / 1e9 == pytest.approx(row.macs, abs=6e-4)


@pytest.mark.parametrize("row", of(PRODUCTS), ids=lambda row: row.name)
def test_macs_of_the_cnns_are_products_alone(row):
    assert round(count_macs(on_meta(row.spec)) / 1e9, 3) == row.macs


@pytest.mark.parametrize("row", of((*FIRST_PAPER, *BARE, *MIXED)), ids=lambda row: row.name)
def test_macs_are_the_published_ones_up_to_what_fvcore_adds_for_norms(row):
    model = on_meta(row.spec)
    ours, elements = count_macs(model) / 1e9, norm_elements(model) / 1e9
    if row.name.startswith(GROUPED):  # fvcore adds five operations for each element of nn.GroupNorm
        assert ours + 5 * elements == pytest.approx(row.macs, abs=6e-5)
    elif row.family in BARE or row.name.startswith("metaformer_"):  # the original's hand-written norms count nothing
        assert ours == pytest.approx(row.macs, abs=6e-5)
    else:  # ConvFormer and CAFormer mix norms that count four and five operations an element
        assert ours + 4 * elements - 6e-4 <= row.macs <= ours + 5 * elements + 6e-4


def norm_elements(model):
    """Elements that pass through any norm for one image."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += output.numel()

    handles = [
        m.register_forward_hook(count) for m in model.modules() if isinstance(m, (GroupNorm, torch.nn.LayerNorm))
    ]
    with torch.no_grad():
        model.eval()(torch.empty(1, 3, *model.spec.img_size, device="meta"))
    for handle in handles:
        handle.remove()
    return total


def test_poolformer_s12_to_the_last_multiply_add():
    # facts: convolutions 1,811,755,008 + linear 512,000 counted here, group norm 10,411,520 added by fvcore
    model = on_meta(find("poolformer_s12").spec)
    assert count_macs(model) == 1_811_755_008 + 512_000
    assert count_macs(model) + 5 * norm_elements(model) == 1_822_678_528


def stagewise(spec, **changes):
    return spec.with_changes(stages=tuple(stage.with_changes(**changes) for stage in spec.stages))


S12 = find("poolformer_s12").spec


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [
        (S12.with_mixers("depthwise_conv"), 11_948_456),
        (S12.with_mixers("depthwise_conv(kernel=5)"), 12_001_704),
        (stagewise(S12, mlp=None), 2_451_368),
        (
            stagewise(S12, norm=NormSpec(kind="none")).with_changes(head=S12.head.with_changes(norm=None)),
            11_900_840,
        ),
    ],
    ids=["depthwise 3x3", "depthwise 5x5", "no channel MLP", "no norm"],
)
def test_the_ablations_of_the_first_paper_have_their_counts(spec, parameters):
    assert count_parameters(on_meta(spec)) == parameters


def test_the_global_random_matrix_is_frozen_and_costs_what_the_paper_says():
    model = on_meta(S12.with_mixers(MixerSpec(name="random")))
    assert count_parameters(model) - count_parameters(model, trainable=True) == 21_133_602
    assert count_macs(model) - count_macs(on_meta(S12)) == 1_492_384_768


@pytest.mark.parametrize(
    ("name", "frozen"), [("randformer_s12", 235_298), ("randformer_s24", 470_596), ("randformer_m48", 941_192)]
)
def test_random_matrices_are_frozen(name, frozen):
    model = on_meta(find(name).spec)
    assert count_parameters(model) - count_parameters(model, trainable=True) == frozen


def test_models_are_listed_by_pattern_family_and_weights():
    assert list_models("poolformer_*") == [f"poolformer_{size}" for size in ("s12", "s24", "s36", "m36", "m48")]
    assert list_models("ppaa") == ["metaformer_ppaa_s12_224"]
    assert len(list_models(family="caformer")) == 20
    assert list_models("no such") == []
    assert list_models("PoolFormer_S12") == ["poolformer_s12"]
    with pytest.raises(InputError, match=r"family: no such family 'Caformr'\. Did you mean 'CAFormer'"):
        list_models(family="Caformr")
    with pytest.raises(InputError, match="Did you mean 'pvt_tiny'"):
        create_model("PVT_Tiny")
    assert set(list_models(pretrained=True)) <= set(list_models())


@pytest.mark.parametrize("call", [create_model, list_models])
def test_what_is_no_name_is_refused(call):
    with pytest.raises(InputError, match=r"expected a .*, got 3"):
        call(3)


def test_every_row_says_where_its_weights_lie_or_why_there_are_none():
    assert all(row.weights or row.nearest or row.note for row in ROWS)
    assert not any(row.weights and row.nearest for row in ROWS)
    assert all((source.repo or source.url) for row in ROWS for source in row.weights)


def test_a_row_keeps_its_preprocessing():
    assert create_model("poolformer_m36").preprocessing.resize == 235
    assert create_model("poolformer_s12").preprocessing.resize == 248
    assert replace(find("caformer_s18_384"), top1=None).preprocessing.size == (384, 384)
