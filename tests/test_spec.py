"""Specs check themselves, survive JSON, and know their own arithmetic."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metaformer.errors import InputError, SpecError
from metaformer.recipe import Dense, ModelConfig
from metaformer.spec.mixer import MixerSpec
from metaformer.spec.model import EmbeddingSpec, HeadSpec, MLPSpec, ModelSpec, NormSpec, ResidualSpec, StageSpec
from metaformer.zoo.catalogue import CATALOGUE

STEM = EmbeddingSpec(kernel=7, stride=4, padding=2)


def small(**changes):
    stages = (StageSpec(depth=1, width=8, embedding=STEM), StageSpec(depth=2, width=16))
    return ModelSpec(stages=stages, img_size=(32, 32)).with_changes(**changes)


@pytest.mark.parametrize("row", CATALOGUE.values(), ids=lambda row: row.name)
def test_every_row_survives_json(row):
    assert type(row.spec).from_json(row.spec.to_json()) == row.spec


norms = st.builds(
    NormSpec,
    kind=st.sampled_from(["layer", "group", "affine", "batch", "none"]),
    eps=st.floats(1e-12, 1e-2),
    bias=st.booleans(),
)
mixers = st.builds(
    MixerSpec,
    name=st.sampled_from(["pooling", "attention"]),
    args=st.dictionaries(st.sampled_from("ab"), st.integers()),
)
residuals = st.builds(ResidualSpec, on=st.booleans(), layer_scale=st.none() | st.floats(0, 1))
stages = st.builds(
    StageSpec,
    depth=st.integers(0, 3),
    width=st.integers(1, 64),
    mixer=mixers,
    mlp=st.none() | st.builds(MLPSpec, ratio=st.floats(0.5, 8)),
    norm=norms,
    residual=residuals,
    position=st.booleans(),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(st.lists(stages, min_size=1, max_size=4), st.builds(HeadSpec, norm=st.none() | norms))
def test_any_spec_survives_json(parts, head):
    spec = ModelSpec(stages=tuple(parts), head=head)
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_grids_and_reductions_follow_the_embeddings():
    spec = CATALOGUE["poolformer_s12"].spec
    assert spec.reductions() == [4, 8, 16, 32]
    assert spec.grids() == [(56, 56), (28, 28), (14, 14), (7, 7)]
    # facts: the stem gives floor((S - 3) / 4) + 1, so 223 to 226 all give 56
    assert {spec.grids((side, side))[0] for side in (223, 224, 225, 226)} == {(56, 56)}
    assert spec.with_stem_stride(1).grids((28, 28)) == [(28, 28), (14, 14), (7, 7), (4, 4)]
    assert spec.with_stem_stride(2).grids((32, 32)) == [(16, 16), (8, 8), (4, 4), (2, 2)]
    # a stem of patches cuts smaller ones
    assert CATALOGUE["deit_tiny_patch16_224"].spec.with_stem_stride(4).grids((32, 32)) == [(8, 8)]
    assert CATALOGUE["pvt_tiny"].spec.with_stem_stride(1).grids((32, 32)) == [(32, 32), (16, 16), (8, 8), (4, 4)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(num_classes=-1), r"num_classes: expected 0 or more, got -1"),
        (lambda: small(drop_path_rate=1.0), r"drop_path_rate: expected a rate in \[0, 1\), got 1.0"),
        (lambda: small(img_size=(2, 2)), r"img_size: \(2, 2\) leaves no token at stages\[0\]"),
        (lambda: small(img_size=224), r"img_size: expected .* got 224"),
        (lambda: small(stages=()), r"stages: expected at least one stage"),
        (lambda: small(head=HeadSpec(readout="token")), r"head.readout: expected a stage with prefix_tokens"),
        (lambda: NormSpec(kind="grup"), r"kind: expected 'layer', 'group'.*got 'grup'"),
        (lambda: NormSpec(eps=0.0), r"eps: expected a positive number, got 0.0"),
        (lambda: StageSpec(depth=2, width=0), r"width: expected at least 1 channel, got 0"),
        (lambda: StageSpec(depth=True, width=8), r"depth: expected an integer, got True"),
        (lambda: EmbeddingSpec(kernel=3, padding=3), r"padding: expected from 0 to kernel - 1, got 3"),
        (lambda: MLPSpec(dropout=1.5), r"dropout: expected a rate"),
        (lambda: small().with_mixers(["pooling"] * 3), r"mixers: expected 1 or 2 mixers.*got 3"),
        (lambda: small().with_mixers([3, 4]), r"mixers\[0\]: expected a mixer's name.*got 3"),
        (lambda: ModelSpec.from_dict({"stages": [{"depth": 1}]}), r"stages\[0\].width: this field is required"),
        (lambda: ModelSpec.from_dict({"stagse": []}), r"stagse: no such field. Did you mean 'stages'"),
        (
            lambda: ModelSpec.from_dict({"stages": [{"depth": 1, "width": 8, "norm": {"esp": 1}}]}),
            r"stages\[0\].norm.esp: no such field. Did you mean 'eps'",
        ),
        (lambda: ModelSpec.from_json("{"), r"not valid JSON"),
        (lambda: small().with_mixers(lambda dim: None).to_json(), r"cannot save .* as JSON"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_with_the_name_of_the_field(make, message):
    with pytest.raises(SpecError, match=message):
        make()


def test_lists_are_taken_for_tuples_and_their_lengths_are_said():
    assert Dense(scale=[0.5, 2.0]).scale == (0.5, 2.0)
    assert ModelConfig(mixers=["pooling"]).mixers == ("pooling",)
    for wrong in ([0.5, 1.0, 2.0], (2.0,)):
        with pytest.raises(InputError, match="scale: expected a list of 2 numbers, got"):
            Dense(scale=wrong)
    with pytest.raises(InputError, match="mixers: expected a list of strings or null, got"):
        ModelConfig(mixers=[3])


def test_an_embedding_behind_prefix_tokens_is_refused():
    stages = (StageSpec(depth=1, width=8, prefix_tokens=1), StageSpec(depth=1, width=16))
    with pytest.raises(SpecError, match=r"stages\[1\].embedding.kind: expected 'none'"):
        ModelSpec(stages=stages)
