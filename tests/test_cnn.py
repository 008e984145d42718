"""timm's CNNs under the same calls: timm's scores, our interface, one training run from images to an answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from rich.console import Console
from timm.data import resolve_model_data_config
from timm.models import group_parameters

from metaformer import InputError, SpecError, build, count_macs, count_parameters, create_model, find
from metaformer.cli import main
from metaformer.data.sources import open_labeled
from metaformer.inference.predictor import Predictor
from metaformer.model.classifier import FeatureExtractor
from metaformer.model.timm_cnn import PREFIX, TimmClassifier
from metaformer.recipe import Augmentation, DataConfig, ModelConfig, OptimizerConfig, Recipe
from metaformer.run.evaluate import evaluate
from metaformer.run.train import train
from metaformer.spec.model import ModelSpec, TimmSpec
from metaformer.tasks.classification.build import build_model
from metaformer.weights.description import Description, describe
from metaformer.weights.load import load_weights
from metaformer.zoo.catalogue import CATALOGUE

QUIET = Console(quiet=True)
ROWS = [row for row in CATALOGUE.values() if isinstance(row.spec, TimmSpec)]
SMALL = TimmSpec(architecture="test_resnet", num_classes=5, img_size=(64, 64))
"""A ResNet of half a million parameters that timm has for tests."""
BOTH = [SMALL, TimmSpec(architecture="regnety_002", num_classes=5)]


def named(spec: TimmSpec) -> str:
    return spec.architecture


@pytest.fixture(scope="module", params=BOTH, ids=named)
def model(request: pytest.FixtureRequest) -> TimmClassifier:
    torch.manual_seed(0)
    return create_model(request.param).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96)


# --- rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_timms_model_of_its_tag(row) -> None:
    with torch.device("meta"):
        ours, theirs = build(row.spec), timm.create_model(row.name)
    assert {name.removeprefix(PREFIX) for name in ours.state_dict()} == set(theirs.state_dict())
    assert row.parameters == count_parameters(theirs)
    hub_id = row.weights[0].repo
    told, prepared = timm.get_pretrained_cfg(hub_id.removeprefix("timm/")), row.preprocessing
    assert told.hf_hub_id == hub_id
    assert told.input_size == (row.spec.in_chans, *prepared.size)
    assert (told.crop_pct, told.interpolation) == (prepared.crop, prepared.interpolation)
    assert (told.mean, told.std) == (prepared.mean, prepared.std)
    assert [source.url for source in row.weights[1:]] == ([told.url] if told.url else [])


def test_the_resnets_are_those_of_the_table() -> None:
    resnets = [row for row in ROWS if row.published is not None]
    assert [row.name for row in resnets] == [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
    for row in resnets:
        assert row.weights[0].repo == f"timm/{row.name}.a2_in1k"
        assert row.published.top1 == row.top1
        assert round(row.parameters / 1e6) == row.published.parameters
        assert round(row.macs, 1) == row.published.macs or row.published.note


# --- the calls --------------------------------------------------------------------------------------------------


def test_scores_are_timms(model: TimmClassifier, images: torch.Tensor) -> None:
    theirs = timm.create_model(model.spec.architecture, num_classes=5).eval()
    theirs.load_state_dict({name.removeprefix(PREFIX): tensor for name, tensor in model.state_dict().items()})
    with torch.no_grad():
        assert torch.equal(model(images), theirs(images))


def test_initial_values_are_timms_under_the_same_seed(model: TimmClassifier) -> None:
    torch.manual_seed(3)
    ours = create_model(model.spec).state_dict()
    torch.manual_seed(3)
    theirs = timm.create_model(model.spec.architecture, num_classes=5).state_dict()
    assert all(torch.equal(ours[PREFIX + name], tensor) for name, tensor in theirs.items())


def test_features_then_head_is_the_whole(model: TimmClassifier, images: torch.Tensor) -> None:
    with torch.no_grad():
        features = model.forward_features(images)
        assert features.shape == (2, model.num_features, 2, 3)
        assert torch.equal(model.forward_head(features), model(images))
        assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)


def test_the_pyramid_has_strides_4_to_32(model: TimmClassifier, images: torch.Tensor) -> None:
    extractor = create_model(model.spec, features_only=True).eval()
    load_weights(extractor, model.state_dict())
    with torch.no_grad():
        maps = extractor(images)
        final, seen = model.forward_intermediates(images)
    assert extractor.feature_info.reduction() == model.feature_info.reduction() == [4, 8, 16, 32]
    shapes = [(2, info["num_chs"], 64 // info["reduction"], 96 // info["reduction"]) for info in model.feature_info]
    assert [tuple(one.shape) for one in maps] == shapes
    assert all(torch.equal(one, other) for one, other in zip(maps, seen, strict=True))
    assert torch.equal(final, model.forward_features(images))
    for name in model.feature_info.module_name():
        assert model.get_submodule(name) is not None


def test_maps_come_in_the_order_asked_for_and_later_stages_are_left_out(
    model: TimmClassifier, images: torch.Tensor
) -> None:
    extractor = create_model(model.spec, features_only=True, out_indices=(2, 0)).eval()
    load_weights(extractor, model.state_dict())
    assert count_parameters(extractor) < count_parameters(model)
    assert extractor.feature_info.reduction() == [16, 4]
    with torch.no_grad():
        maps = extractor(images)
        tokens = model.forward_intermediates(images, [2, 0], stop_early=True, output_fmt="NLC", intermediates_only=True)
    assert [one.shape[2] for one in maps] == [4, 16]
    assert all(torch.equal(m.flatten(2).mT, t) for m, t in zip(maps, tokens, strict=True))
    with pytest.raises(InputError, match="expected 0 to 3, got 4"):
        model.forward_intermediates(images, [4])
    with pytest.raises(InputError, match="output_fmt"):
        model.forward_intermediates(images, output_fmt="NHWC")


def test_a_reset_head_is_fresh_and_the_rest_stays(images: torch.Tensor) -> None:
    model = create_model(SMALL).double().eval()
    before = model.forward_features(images.double())
    model.reset_classifier(7)
    assert model.num_classes == model.spec.num_classes == model.get_classifier().out_features == 7
    assert model.get_classifier().weight.dtype == torch.float64
    assert torch.equal(model.forward_features(images.double()), before)
    model.reset_classifier(0)
    assert model(images.double()).shape == (2, model.num_features)
    with pytest.raises(InputError, match="global_pool"):
        model.reset_classifier(2, "max")


def test_arguments_arrive() -> None:
    model = create_model("resnet18", num_classes=4, in_chans=1, img_size=(64, 96), drop_path_rate=0.2, drop_rate=0.1)
    assert model.spec == TimmSpec(
        architecture="resnet18", num_classes=4, in_chans=1, img_size=(64, 96), drop_path_rate=0.2, dropout=0.1
    )
    assert (model.preprocessing.size, len(model.preprocessing.mean)) == ((64, 96), 1)
    assert model.cnn.drop_rate == 0.1
    assert model.cnn.layer4[-1].drop_path.drop_prob == pytest.approx(0.2)
    assert count_macs(model) < count_macs(model, (128, 192))
    assert model.eval()(torch.randn(1, 1, 64, 96)).shape == (1, 4)
    assert create_model("resnet18", num_classes=0).eval()(torch.randn(1, 3, 32, 32)).shape == (1, 512)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mixers": "pooling"}, r"mixers: resnet50 is timm's CNN and has no token mixer to swap"),
        ({"stem_stride": 1}, r"stem_stride: resnet50 is timm's CNN.* expected 4 or None, got 1"),
        ({"timm_head": True}, r"timm_head: resnet50 is timm's CNN"),
        ({"num_classes": -1}, r"num_classes: expected 0 or more"),
        ({"drop_rate": 1.5}, r"dropout: expected a rate"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        create_model("resnet50", **arguments)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("resnet5", r"has no 'resnet5'. Did you mean 'resnet"),
        ("resnet50.a1_in1k", r"architecture: expected timm's name without a tag"),
        ("hf-hub:someone/thing", r"architecture: expected timm's name without a tag"),
        ("vit_tiny_patch16_224", r"timm's vit_tiny_patch16_224 has none"),
    ],
)
def test_what_timm_has_not_is_refused(architecture: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        create_model(TimmSpec(architecture=architecture))


def test_timms_tools_read_it(model: TimmClassifier) -> None:
    config = resolve_model_data_config(model)
    assert config["input_size"] == (3, *model.preprocessing.size)
    assert model.get_submodule(model.pretrained_cfg["classifier"]) is model.get_classifier()
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), torch.nn.Conv2d)
    assert model.no_weight_decay() == set()


@pytest.mark.parametrize("name", ["resnet18", "regnety_040"])
def test_layer_groups_are_timms(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = create_model(name), timm.create_model(name)
    for coarse in (False, True):
        groups = group_parameters(ours, ours.group_matcher(coarse))
        expected = group_parameters(theirs, theirs.group_matcher(coarse))
        assert {layer: [n.removeprefix(PREFIX) for n in names] for layer, names in groups.items()} == expected
        assert len(groups) > 2


def test_gradient_checkpointing_changes_nothing_but_memory(images: torch.Tensor) -> None:
    torch.manual_seed(1)
    plain = create_model(SMALL)
    torch.manual_seed(1)
    thrifty = create_model(SMALL)
    thrifty.set_grad_checkpointing()
    for one in (plain, thrifty):
        one(images).square().sum().backward()
    assert torch.allclose(plain.cnn.conv1[0].weight.grad, thrifty.cnn.conv1[0].weight.grad, rtol=1e-4, atol=1e-6)


def test_a_metaformer_does_not_wait_for_timm() -> None:
    code = "import sys, metaformer; metaformer.create_model('poolformer_s12'); print('timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
    assert isinstance(create_model("poolformer_s12", features_only=True), FeatureExtractor)


# --- a run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder_of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images of two colors."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for name, color in (("blue", (40, 60, 200)), ("red", (210, 50, 40))):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(np.array(color) + rng.integers(-30, 30, (40, 36, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i}.png")
    return folder


def test_a_run_from_images_to_an_answer(folder_of_images: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        model=ModelConfig(img_size=32),
        data=DataConfig(source=str(folder_of_images)),
        augmentation=Augmentation(policy="none"),
        optimizer=OptimizerConfig(epochs=2, batch_size=6, lr=3e-3, layer_decay=0.9),
    )
    run = train(recipe, tmp_path / "run", spec=SMALL.with_changes(img_size=(32, 32)), console=QUIET)
    assert run is not None
    config = json.loads((run.folder / "config.json").read_text())
    assert TimmSpec.from_dict(config["spec"]) == SMALL.with_changes(num_classes=2, img_size=(32, 32))
    assert (run.folder / "report.html").is_file()
    predictor = Predictor(run.folder)
    assert predictor.classes == ("blue", "red")
    assert evaluate(run.folder, console=QUIET).metrics["top1"] == run.metrics["top1"]
    results = predictor([folder_of_images / "val"])
    assert len(results) == 4
    assert {score.name for score in results[0].top} == {"blue", "red"}
    resumed = train(None, run.folder, resume=True, spec=SMALL.with_changes(img_size=(32, 32)), console=QUIET)
    assert resumed is not None
    assert resumed.was_finished


def test_a_recipe_names_a_cnn() -> None:
    sets = open_labeled(DataConfig(source="digits"))
    model, notes = build_model(Recipe(model=ModelConfig(name="resnet18")), sets)
    assert (model.spec.in_chans, model.spec.num_classes, model.spec.img_size) == (1, 10, (8, 8))
    assert not any("stem" in note for note in notes)
    as_published = Recipe(model=ModelConfig(name="resnet18", stem_stride=4))  # where a recipe brings another
    assert build_model(as_published, sets)[0].spec == model.spec
    with pytest.raises(SpecError, match="no token mixer to swap"):
        build_model(Recipe(model=ModelConfig(name="resnet18", mixers=("pooling",))), sets)


def test_the_command_line_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "resnet*", "--format", "json"])
    listed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in listed] == [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
    assert listed[0]["parameters"] == find("resnet18").parameters


def test_the_two_kinds_of_spec_are_told_apart_in_json() -> None:
    for name in ("resnet18", "poolformer_s12"):
        with torch.device("meta"):
            description = describe(create_model(name))
        again = Description.from_json(description.to_json())
        assert again == description
        assert type(again.spec) is {"resnet18": TimmSpec, "poolformer_s12": ModelSpec}[name]
    data = describe(create_model(SMALL)).to_dict()
    data["spec"]["dropuot"] = 0.1
    with pytest.raises(InputError, match=r"spec\.dropuot: no such field. Did you mean 'dropout'"):
        Description.from_dict(data)
