"""Weights files, run folders, exports and hub folders that version 0.1.0 wrote still open."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from dense_models import pyramid_spec
from dense_run import narrow

from metaformer import from_pretrained, load_model, load_weights, save_pretrained
from metaformer.model.dense.detector import Detector
from metaformer.spec.dense import DenseSpec
from metaformer.weights.description import Description
from metaformer.weights.hub import HubConfig, describe_source
from metaformer.weights.save import read_description, read_metrics

WRITTEN = Path(__file__).parents[1] / "version_0_1_0"
DIGITS = tuple("0123456789")
COLORS = ("blue", "green", "red")
SOURCES = {
    "runs/digits": DIGITS,
    "runs/digits/best.safetensors": DIGITS,
    "runs/photos": COLORS,
    "runs/photos/best.safetensors": COLORS,
    "interrupted": DIGITS,
    "interrupted/last.safetensors": DIGITS,
    "continued": DIGITS,
    "pretrained": DIGITS,
    "pretrained/model.safetensors": DIGITS,
    "export-safetensors": DIGITS,
    "export-safetensors/model.safetensors": DIGITS,
}


@pytest.mark.parametrize("source", SOURCES)
def test_classifiers_open_with_their_classes_and_task(source: str) -> None:
    description = describe_source(WRITTEN / source)
    assert (description.task, description.classes) == ("classification", SOURCES[source])
    assert (description.version, description.spec.img_size) == ("0.1.0", (8, 8))
    images = torch.rand(2, description.spec.in_chans, 8, 8)
    for load in (from_pretrained, load_model):
        model = load(WRITTEN / source)
        assert model.spec == description.spec
        with torch.no_grad():
            scores = model(images)
        assert scores.shape == (2, len(SOURCES[source]))
        assert scores.isfinite().all()


def test_a_folder_stands_for_its_best_weights() -> None:
    images = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        folder, file = (
            load_model(WRITTEN / source)(images) for source in ("runs/digits", "runs/digits/best.safetensors")
        )
    assert torch.equal(folder, file)


def test_a_detector_opens() -> None:
    with narrow():  # as it was trained
        model = load_model(WRITTEN / "runs/retinanet")
    description = describe_source(WRITTEN / "runs/retinanet")
    assert isinstance(model, Detector)
    assert isinstance(description.spec, DenseSpec)
    assert (description.task, description.spec.system) == ("detection", "retinanet")
    assert description.spec.backbone.with_changes(num_classes=5) == pyramid_spec()
    assert len(description.classes or ()) == model.num_classes
    with torch.no_grad():
        (found,) = model([torch.rand(3, 48, 64)])
    assert found["scores"].isfinite().all()


def test_metrics_are_those_of_the_weights_in_the_file() -> None:
    """Averaged weights have metrics of their own, which 0.1.0 called figures."""
    evaluation = json.loads((WRITTEN / "runs/digits/evaluation.json").read_text())["figures"]
    metrics = read_metrics(WRITTEN / "runs/digits/best.safetensors")
    assert metrics.keys() == {"loss", "top1", "top5"}
    assert metrics["top1"] == pytest.approx(evaluation["top1"])
    assert read_metrics(WRITTEN / "pretrained/model.safetensors") == {}


@pytest.mark.parametrize("name", ["export-onnx", "export-safetensors"])
def test_exports_describe_their_model(name: str) -> None:
    content = json.loads((WRITTEN / name / "export.json").read_text())["model"]
    assert Description.from_dict(content) == describe_source(WRITTEN / "runs/digits")


def test_what_is_read_can_be_written_again(tmp_path: Path) -> None:
    description = read_description(WRITTEN / "runs/retinanet/best.safetensors")
    assert Description.from_dict(description.to_dict()) == description
    hub = HubConfig.read(json.loads((WRITTEN / "pretrained/config.json").read_text()), "pretrained")
    assert HubConfig.from_dict(hub.to_dict()) == hub
    assert HubConfig.of(hub.description) == hub.with_changes(task="classification")
    saved = save_pretrained(WRITTEN / "runs/digits", tmp_path)
    assert describe_source(saved) == describe_source(WRITTEN / "runs/digits").with_changes(
        version=describe_source(saved).version
    )


def test_both_files_called_config_json_are_told_apart_by_what_they_say(tmp_path: Path) -> None:
    folder = shutil.copytree(WRITTEN / "runs/digits", tmp_path / "both")
    shutil.copy(WRITTEN / "pretrained/config.json", folder / "config.json")
    assert describe_source(folder) == describe_source(WRITTEN / "pretrained")
    load_weights(from_pretrained(folder), folder)
