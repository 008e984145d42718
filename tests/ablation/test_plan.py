"""Plans as data: the shipped ones against the published counts, and what a change may and may not say."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import torch
from torch import nn

from metaformer.ablation import Base, Change, Plan
from metaformer.ablation.plan import DataFacts, Variant, slug, variants
from metaformer.ablation.plan_files import read_plan
from metaformer.errors import InputError, RunError, SpecError
from metaformer.model.build import MIXERS, build
from metaformer.recipe import ModelConfig, OptimizerConfig, Recipe
from metaformer.run.recipes import shipped_plans
from metaformer.spec.input import TokenInput
from metaformer.spec.mixer import MixerSpec
from metaformer.spec.model import EmbeddingSpec, ModelSpec, StageSpec
from metaformer.zoo.catalogue import CATALOGUE, find

PLANS = shipped_plans()
SIDES = (8, 28, 32, 64, 224)


def random_images(side: int = 8, classes: int = 10, channels: int = 1) -> DataFacts:
    return DataFacts(classes=tuple(str(i) for i in range(classes)), channels=channels, side=side, train=1437, val=360)


def resolved(plan: Plan, side: int = 8) -> tuple[list[Variant], list[str]]:
    return variants(plan, random_images(side))


def shipped(name: str, side: int = 224) -> dict[str, Variant]:
    """Its rows for ImageNet's classes by their names."""
    rows, notes = variants(read_plan(PLANS[name], side), random_images(side, classes=1000, channels=3))
    assert notes == []
    return {row.name: row for row in rows}


def counted(spec: Any) -> tuple[int, int]:
    """Trained and frozen parameters."""
    with torch.device("meta"):
        model = build(spec)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, trained in sizes if not trained)


def changed(**fields: Any) -> Variant:
    """The only change of a plan on the usual base."""
    rows, _ = resolved(Plan(name="one", changes=(Change(name="row", **fields),)))
    return rows[1]


# --- the shipped plans --------------------------------------------------------------------------------------------


def test_every_plan_of_the_issue_is_shipped() -> None:
    assert set(PLANS) == {"paper", "mixers", "hybrids", "frames", "norms", "demo"}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", PLANS)
def test_every_row_is_another_model_that_can_be_built(name: str, side: int) -> None:
    plan = read_plan(PLANS[name], side)
    rows, notes = resolved(plan, side)
    assert notes == []
    assert plan.name == name
    assert len({row.slug for row in rows}) == len(rows) > 5
    assert all(row.configuration != other.configuration for i, row in enumerate(rows) for other in rows[:i])
    for row in rows:
        counted(row.spec)
        least = min(min(grid) for grid in row.spec.grids())
        assert least >= 2, f"{row.name} mixes a single token"


# table 5, and counts of these models built by the authors' code or derived from their frame
PARAMETERS = {
    "PoolFormer": 11_915_176,
    "identity": 11_915_176,
    "random matrix": 11_915_176,
    "depthwise conv": 11_948_456,
    "pool size 5": 11_915_176,
    "pool size 7": 11_915_176,
    "pool size 9": 11_915_176,
    "channel LayerNorm": 11_915_176,
    "BatchNorm": 11_915_176,
    "no norm": 11_900_840,
    "ReLU": 11_915_176,
    "SiLU": 11_915_176,
    "no residual": 11_915_176,
    "no channel MLP": 2_451_368,
    "attention in stage 4": 14_038_440,
    "attention in stages 3 and 4": 16_535_592,
    "spatial FC in stage 4": 11_919_978,
    "spatial FC in stages 3 and 4": 12_150_474,
}


def test_paper_has_the_published_parameters_row_by_row() -> None:
    counts = {name: counted(row.spec) for name, row in shipped("paper").items()}
    assert {name: trained for name, (trained, _) in counts.items()} == PARAMETERS
    frozen = {name: held for name, (_, held) in counts.items() if held}
    assert frozen == {"random matrix": 21_133_602}


PRINTED = {
    "PoolFormer": 77.2, "identity": 74.3, "random matrix": 75.8, "depthwise conv": 78.1, "pool size 5": 77.2,
    "pool size 7": 77.1, "pool size 9": 76.8, "channel LayerNorm": 76.5, "BatchNorm": 76.4, "no norm": 46.1,
    "ReLU": 76.4, "SiLU": 77.2, "no residual": 0.1, "no channel MLP": 5.7, "attention in stage 4": 78.3,
    "attention in stages 3 and 4": 81.0, "spatial FC in stage 4": 77.5, "spatial FC in stages 3 and 4": 77.9,
}  # fmt: skip
"""Table 5 as printed."""


def test_paper_has_the_printed_accuracies_row_by_row() -> None:
    assert {name: row.published for name, row in shipped("paper").items()} == PRINTED


SAME = {
    "PoolFormer": "poolformer_s12",
    "identity": "metaformer_id_s12",
    "attention in stage 4": "metaformer_pppa_s12_224",
    "attention in stages 3 and 4": "metaformer_ppaa_s12_224",
    "spatial FC in stage 4": "metaformer_pppf_s12_224",
    "spatial FC in stages 3 and 4": "metaformer_ppff_s12_224",
}


@pytest.mark.parametrize("name", SAME)
def test_a_row_of_paper_that_the_zoo_has_is_the_zoos(name: str) -> None:
    published = find(SAME[name])
    row = shipped("paper")[name]
    assert row.spec == published.spec.with_changes(drop_path_rate=0.1)  # the ImageNet recipe's
    assert row.published == published.top1
    assert counted(row.spec) == (published.parameters, 0)


@pytest.mark.parametrize("side", SIDES)
def test_a_row_that_two_plans_share_is_the_same_run(side: int) -> None:
    """The first paper's rows mean the same in ``paper``, ``hybrids`` and ``mixers``, at every size."""
    paper = shipped("paper", side)
    shared = {**SAME, "channel LayerNorm": "", "identity": "", "depthwise conv": "", "random matrix": ""}
    for plan in ("hybrids", "mixers"):
        rows = shipped(plan, side)
        assert next(iter(rows.values())).configuration == paper["PoolFormer"].configuration
        both = [name for name in rows if name in shared]
        assert len(both) >= 3
        for name in both:
            assert rows[name].configuration == paper[name].configuration, name
            assert rows[name].published == paper[name].published, name


def names_of(mixer: object) -> set[str]:
    """A mixer and the one inside it."""
    args = mixer.args if isinstance(mixer, MixerSpec) else dict(mixer)  # type: ignore[call-overload]
    name = mixer.name if isinstance(mixer, MixerSpec) else args["name"]
    return {name} | (names_of(args["mixer"]) if isinstance(args.get("mixer"), dict) else set())


@pytest.mark.parametrize("side", [8, 224])
def test_mixers_has_every_mixer_of_the_library(side: int) -> None:
    """A new mixer needs a row in experiments/ablations/mixers.py."""
    rows = shipped("mixers", side).values()
    used = [{name for mixer in row.spec.mixers for name in names_of(mixer)} for row in rows]
    assert set().union(*used) == set(MIXERS)
    alone = {next(iter(names)) for names in used if len(names) == 1}
    assert alone == set(MIXERS) - {"window"}, "every mixer but the wrapper has a row that is its own"


def test_mixers_changes_nothing_but_the_mixer() -> None:
    for side in (8, 224):
        rows = list(shipped("mixers", side).values())
        for row in rows:
            assert row.spec.with_mixers("pooling") == rows[0].spec
            assert row.recipe == rows[0].recipe


def test_hybrids_are_the_papers_assignments_and_no_others() -> None:
    letters = {"pooling": "p", "attention": "a", "spatial_fc": "f"}
    rows = shipped("hybrids").values()
    assigned = ["".join(letters[mixer.name] for mixer in row.spec.mixers) for row in rows]
    assert assigned == ["pppp", "pppp", "pppa", "ppaa", "pppf", "ppff"]


@pytest.mark.parametrize("side", SIDES)
def test_frames_crosses_three_mixers_with_three_frames(side: int) -> None:
    rows = shipped("frames", side).values()
    crossed = {(row.group, row.spec.mixers[0].name) for row in rows}
    assert len(crossed) == len(rows) == 9
    assert {mixer for _, mixer in crossed} == {"pooling", "attention", "separable_conv"}
    assert all(sum(stage.depth for stage in row.spec.stages) == 12 for row in rows)
    for group in {row.group for row in rows}:
        bare = [row.spec.with_mixers("pooling") for row in rows if row.group == group]
        assert bare[0] == bare[1] == bare[2], f"{group} is not one frame"


def test_frames_are_the_published_ones() -> None:
    rows = shipped("frames")
    assert rows["PoolFormer, pooling"].spec == find("poolformer_s12").spec.with_changes(drop_path_rate=0.1)
    assert rows["DeiT, attention"].spec == find("deit_small_patch16_224").spec.with_changes(drop_path_rate=0.1)
    published = find("convformer_s18").spec
    own = rows["ConvFormer, separable conv"].spec
    deep = [mine.with_changes(depth=s.depth) for mine, s in zip(own.stages, published.stages, strict=True)]
    assert own.with_changes(stages=tuple(deep), drop_path_rate=0.0) == published


def test_demo_is_made_of_rows_that_the_paper_prints() -> None:
    rows = shipped("demo", 8)
    printed = {**PRINTED, "pooling": 77.2, "attention in the last two stages": 81.0}
    assert {name: row.published for name, row in rows.items()} == {name: printed[name] for name in rows}
    assert rows["pooling"].spec.grids() == [(8, 8), (4, 4), (2, 2)]
    small, _ = resolved(read_plan(PLANS["demo"], 8))
    assert all(counted(row.spec)[0] < 200_000 for row in small), "too large for a demo"


# --- the base -----------------------------------------------------------------------------------------------------


def base_of(side: int = 8, **fields: Any) -> Any:
    (row, *_), _ = resolved(Plan(name="one", base=Base(**fields), changes=()), side)
    return row.spec


@pytest.mark.parametrize(("side", "grids"), [(8, [8, 4, 2, 2]), (28, [10, 5, 3, 2]), (32, [8, 4, 2, 2])])
def test_small_images_keep_tokens_to_mix(side: int, grids: list[int]) -> None:
    assert base_of(side).grids() == [(n, n) for n in grids]


def test_published_size_keeps_the_published_model() -> None:
    spec = base_of(224)
    assert spec == find("poolformer_s12").spec.with_changes(num_classes=10, in_chans=1)


def test_a_stem_stride_is_obeyed() -> None:
    assert base_of(32, stem_stride=2).grids()[0] == (16, 16)


def test_a_model_of_ones_own_is_a_base() -> None:
    stages = (StageSpec(depth=1, width=8, embedding=EmbeddingSpec(kernel=7, stride=4, padding=2)),)
    spec = base_of(16, spec=ModelSpec(stages=stages), width=2.0)
    assert (spec.stages[0].width, spec.num_classes, spec.in_chans, spec.img_size) == (16, 10, 1, (16, 16))
    assert spec.grids() == [(8, 8)]


def test_a_model_of_token_ids_keeps_its_sequences() -> None:
    stage = StageSpec(depth=1, width=8, embedding=EmbeddingSpec(kind="token"))
    spec = base_of(16, spec=ModelSpec(stages=(stage,), tokens=TokenInput(vocab_size=50, length=12)), width=2.0)
    assert (spec.stages[0].width, spec.num_classes, spec.tokens.length, spec.grids()) == (16, 10, 12, [(12,)])


def test_the_bases_own_change_is_in_every_row() -> None:
    base = Base(change=Change(name="small", stages={"depth": 1}))
    rows, _ = resolved(Plan(name="one", base=base, changes=(Change(name="row", mixers="identity"),)))
    assert [[stage.depth for stage in row.spec.stages] for row in rows] == [[1] * 4] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, "width: expected a positive factor, got 0"),
        ({"width": inf}, "width: expected a positive factor"),
        ({"stem_stride": 0}, "stem_stride: expected at least 1"),
        ({"name": "…"}, "name: expected letters"),
        (
            {"model": "poolformer_s24", "spec": find("poolformer_s12").spec},
            "model: expected a model name or a spec",
        ),
        ({"change": Change(name="x", model="poolformer_s24")}, "base.model"),
        ({"change": Change(name="x", recipe={"optimizer": {"lr": 1}})}, "plan's recipe"),
    ],
)
def test_a_base_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        Base(**fields)


# --- changes ------------------------------------------------------------------------------------------------------


def test_fields_of_stages_are_merged_one_by_one() -> None:
    before = find("poolformer_s12").spec.stages[0]
    row = changed(stages={"mlp": {"activation": "relu"}}, stage={4: {"position": True, "norm": {"kind": "layer"}}})
    first, last = row.spec.stages[0], row.spec.stages[3]
    assert first.mlp == before.mlp.with_changes(activation="relu")
    assert (first.position, last.position) == (False, True)
    assert (first.norm.kind, last.norm.kind, last.norm.eps) == ("group", "layer", before.norm.eps)
    assert last.mlp.activation == "relu"


def test_head_network_and_recipe_are_merged_one_by_one() -> None:
    row = changed(head={"dropout": 0.1}, network={"drop_path_rate": 0.2}, recipe={"optimizer": {"lr": 0.5}})
    assert (row.spec.head.dropout, row.spec.head.norm.kind, row.spec.drop_path_rate) == (0.1, "group", 0.2)
    assert row.recipe.optimizer == OptimizerConfig(lr=0.5)


def test_a_changed_rate_is_not_overruled_by_the_recipes() -> None:
    """The recipe's drop path is the model's own before the change, and training does not set it again."""
    recipe = Recipe(model=ModelConfig(drop_path_rate=0.1, drop_rate=0.3))
    rows, _ = resolved(Plan(name="one", recipe=recipe, changes=[Change(name="more", network={"drop_path_rate": 0.4})]))
    assert [row.spec.drop_path_rate for row in rows] == [0.1, 0.4]
    assert [row.spec.head.dropout for row in rows] == [0.3, 0.3]
    assert all(row.recipe.model.drop_path_rate is row.recipe.model.drop_rate is None for row in rows)


def test_a_class_of_ones_own_is_a_mixer() -> None:
    row = changed(mixers=[nn.Linear, "pooling", "pooling", "attention"])
    assert row.spec.mixers[0] is nn.Linear
    kept = changed(mixers=nn.Linear, stages={"mlp": None}).spec
    assert kept.mixers == (nn.Linear,) * 4
    assert kept.stages[0].mlp is None


def test_another_frame_has_the_bases_width_and_images() -> None:
    plan = Plan(name="one", base=Base(width=0.25), changes=[Change(name="row", model="deit_small_patch16_224")])
    (_, row), _ = resolved(plan)
    (stage,) = row.spec.stages
    assert (stage.width, stage.mixer.args["heads"], row.spec.grids()) == (96, 6, [(8, 8)])
    assert (row.spec.num_classes, row.spec.in_chans) == (10, 1)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"model": "poolfromer_s12"},
            InputError,
            r"row: unknown model 'poolfromer_s12'\. Did you mean 'poolformer_s12'",
        ),
        ({"mixers": ["pooling", "attention"]}, SpecError, r"row: mixers: expected 1 or 4 mixers.*got 2"),
        ({"mixers": 5}, SpecError, r"row: mixers\[0\]: expected a mixer's name"),
        ({"mixers": {"name": "pooling", "args": 5}}, SpecError, r"row: mixers\[0\]: expected arguments by name"),
        ({"mixers": {"name": "pooling", 5: 5}}, SpecError, r"row: mixers\[0\]: expected arguments by name"),
        ({"stage": {5: {"position": True}}}, SpecError, "row: stage: expected a number from 1 to 4, got 5"),
        ({"stages": {"norm": {"knid": "x"}}}, SpecError, r"row: stages\[0\]\.norm\.knid: no such field\. Did you mean"),
        ({"stages": {"mixer": "pooling"}}, SpecError, r"row: stages\[0\]\.mixer: set it with mixers"),
        ({"head": {"nrom": None}}, SpecError, r"row: head\.nrom: no such field\. Did you mean 'norm'\?"),
        ({"network": {"drop_path": 1}}, SpecError, r"row: network\.drop_path: no such field\. Did you mean"),
        ({"network": {5: 1}}, SpecError, r"row: network\.5: no such field"),
        ({"recipe": {"optimizer": {"lrr": 1}}}, RunError, r"row: recipe\.optimizer\.lrr: no such field"),
        ({"model": "resnet18", "stages": {"mlp": None}}, SpecError, "row: resnet18 is a CNN of timm"),
        ({"model": "resnet18", "mixers": "pooling"}, SpecError, "row: mixers: resnet18 is timm's CNN"),
    ],
)
def test_a_change_that_cannot_be_made_is_told_with_its_name(
    fields: dict[str, Any], error: type[InputError], message: str
) -> None:
    with pytest.raises(error, match=message):
        changed(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "?"}, "name: expected letters"),
        ({"name": "x" * 81}, "name: expected at most 80 letters"),
        ({"name": 5}, "name: expected a string, got 5"),
        ({"stage": {0: {}}}, "stage: expected numbers of stages from 1 on, got 0"),
        ({"stage": {"²": {}}}, "stage: expected numbers"),
        ({"stage": {"last": {}}}, "stage: expected numbers"),
        ({"stage": {1: None}}, r"stage\.1: expected a mapping of fields"),
        ({"stages": 5}, "stages: expected a mapping of fields, got 5"),
        ({"recipe": {"task": "detection"}}, r"recipe\.task: all variants learn the same task"),
        ({"recipe": {"seed": 3}}, r"recipe\.seed: every variant.*--seeds"),
        ({"recipe": {"data": {"source": "CIFAR10"}}}, r"recipe\.data: all variants see the same images"),
        ({"recipe": {"model": {"name": "x"}}}, r"recipe\.model: a variant's model is changed by"),
    ],
)
def test_a_change_that_no_plan_can_have(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        Change(**{"name": "row", **fields})


# --- the plan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("a", "a"), ("Pool 5", "pool-5"), ("base",)])
def test_two_rows_of_one_name_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(RunError, match="share a name"):
        Plan(name="one", changes=tuple(Change(name=name) for name in names))


@pytest.mark.parametrize("field", [{"pretrained": True}, {"weights": "x.safetensors"}, {"mixers": ("pooling",)}])
def test_a_plans_recipe_leaves_the_models_to_the_plan(field: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=rf"recipe\.model\.{next(iter(field))}: "):
        Plan(name="one", recipe=Recipe(model=ModelConfig(**field)), changes=())


def test_only_keeps_the_named_changes_in_the_order_asked_for() -> None:
    plan = Plan(name="one", changes=[Change(name=name) for name in ("Pool 5", "no norm", "ReLU")])
    assert [change.name for change in plan.only(["relu", "pool-5", "ReLU"]).changes] == ["ReLU", "Pool 5"]


def test_only_names_the_nearest_change() -> None:
    plan = Plan(name="one", changes=(Change(name="no norm"), Change(name="ReLU")))
    with pytest.raises(RunError, match=r"--only: the plan 'one' has no change 'no nrom'. Did you mean 'no norm'\?"):
        plan.only(["no nrom"])


def test_a_change_that_changes_nothing_is_noted() -> None:
    same = (
        Change(name="nothing"),
        Change(name="its own mixer", mixers="pooling"),
        Change(name="identity", mixers="identity"),
        Change(name="its own rate", recipe={"optimizer": {"lr": OptimizerConfig().lr}}),
    )
    _, notes = resolved(Plan(name="one", changes=same))
    assert [note.split(" changes nothing")[0] for note in notes] == [
        "'nothing'", "'its own mixer'", "'its own rate'"
    ]  # fmt: skip


def test_two_names_for_one_run_are_noted() -> None:
    twins = (
        Change(name="a", mixers="identity"),
        Change(name="b", mixers="random"),
        Change(name="c", mixers="identity"),
    )
    _, notes = resolved(Plan(name="one", changes=twins))
    assert notes == ["'c' and 'a' are the same run under two names"]


def test_rows_that_differ_in_the_recipe_alone_are_two_runs() -> None:
    rates = [Change(name=f"lr {lr}", recipe={"optimizer": {"lr": lr}}) for lr in (0.1, 0.2)]
    _, notes = resolved(Plan(name="one", changes=rates))
    assert notes == []


@pytest.mark.parametrize(("name", "folder"), [("Pool size 5", "pool-size-5"), ("  [P, P, A] ", "p-p-a"), ("…", "")])
def test_a_name_becomes_a_folders(name: str, folder: str) -> None:
    assert slug(name) == folder


# --- widths -------------------------------------------------------------------------------------------------------


def heads(spec: ModelSpec) -> list[int]:
    with torch.device("meta"):
        return [part.heads for part in build(spec).modules() if isinstance(getattr(part, "heads", None), int)]


@pytest.mark.parametrize(
    "name",
    [
        "metaformer_ppaa_s12_224",  # head_dim
        "caformer_s18",
        "deit_small_patch16_224",  # heads
        "pvt_tiny",
        "swin_tiny_patch4_window7_224",  # head_dim, inside windows
        "swin_mlp_tiny_c24_patch4_window8_256",
    ],
)
def test_a_narrow_model_has_as_many_heads(name: str) -> None:
    spec = CATALOGUE[name].spec
    narrow = spec.with_widths(0.25)
    assert [stage.width * 4 for stage in narrow.stages] == [stage.width for stage in spec.stages]
    assert heads(narrow) == heads(spec) != []


def test_hidden_widths_of_a_mixer_are_widths() -> None:
    spec = CATALOGUE["mixer_b16_224"].spec
    assert spec.with_widths(0.25).stages[0].mixer.args["hidden"] * 4 == spec.stages[0].mixer.args["hidden"]


def test_a_factor_of_one_changes_nothing() -> None:
    for row in CATALOGUE.values():
        if isinstance(row.spec, ModelSpec):
            assert row.spec.with_widths(1.0) == row.spec
