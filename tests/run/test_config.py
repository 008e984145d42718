"""config.json is read as it was written, also by 0.1.0; a damaged one is named with its field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fabricated as fake
import pytest
from test_pins import PINS, WRITTEN, tiny_spec

from metaformer.errors import RunError
from metaformer.recipe import Recipe
from metaformer.run.config import RunConfig, is_run, run_of
from metaformer.spec.dense import DenseSpec
from metaformer.zoo.catalogue import find

DENSE = DenseSpec(system="mask_rcnn", backbone=find("poolformer_s12").spec, num_classes=2)


def plain(config: RunConfig) -> Any:
    return json.loads(json.dumps(config.to_dict()))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"spec": DENSE, "recipe": Recipe(task="detection"), "primary": "mask_ap"},
        {"spec": find("resnet18").spec, "commit": "0123abc+", "primary": "top1"},
    ],
    ids=["classifier", "detector", "cnn"],
)
def test_a_config_is_read_as_it_was_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = fake.config(**changes)
    assert RunConfig.from_dict(plain(config)) == config
    config.write(tmp_path)
    assert RunConfig.read(tmp_path) == config
    assert is_run(tmp_path)
    assert run_of(tmp_path) == run_of(tmp_path / "best.safetensors") == tmp_path
    assert run_of(tmp_path.parent / "elsewhere" / "x.pth") is None is run_of(None)


def test_the_primary_metric_is_the_named_one_or_follows_from_what_was_measured() -> None:
    assert fake.config(primary="loss").primary_metric().name == "loss"
    assert fake.config(primary="not of this version").primary_metric().name == "top1"
    detector = fake.config(spec=DENSE, recipe=Recipe(task="detection"))
    assert detector.primary_metric(("box_ap", "mask_ap")).name == "mask_ap"
    assert detector.primary_metric(("box_ap",)).name == "box_ap"


@pytest.mark.parametrize("name", PINS)
def test_configs_of_0_1_0_are_read(name: str) -> None:
    config = RunConfig.read(WRITTEN / "runs" / name)
    dense = {"semantic_fpn": "segmentation", "retinanet": "detection", "mask_rcnn": "detection"}
    assert config.task.name == dense.get(name, "classification")
    assert (config.name, config.version, config.primary, config.machine.cpu) == ("custom", "0.1.0", None, "AMD EPYC")
    assert (config.recipe.optimizer.name, config.recipe.optimizer.epochs) == ("adamw", 2)
    assert config.recipe.optimizer.accumulation == 2
    assert isinstance(config.spec, DenseSpec) == (name in dense)
    if isinstance(config.spec, DenseSpec):
        assert config.spec.system == name
    if name == "digits":
        assert config.spec == tiny_spec(1, 10)
    assert RunConfig.from_dict(plain(config)) == config


@pytest.mark.parametrize("folder", [p.parent for p in sorted((WRITTEN / "sweep").rglob("config.json"))])
def test_configs_of_a_sweep_of_0_1_0_are_read(folder: Path) -> None:
    config = RunConfig.read(folder)
    assert len(config.classes) == config.spec.num_classes == 10
    assert folder.name == f"seed-{config.recipe.seed}"
    assert RunConfig.from_dict(plain(config)) == config


def test_a_config_from_before_memory_was_a_choice_reads_its_images_one_at_a_time(tmp_path: Path) -> None:
    data = plain(fake.config())
    del data["recipe"]["data"]["memory"]
    (tmp_path / "config.json").write_text(json.dumps(data))
    assert RunConfig.read(tmp_path).recipe.data.memory == "never"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": "many"}, r"parameters: expected an integer, got 'many'"),
        ({"classes": None}, r"classes: expected a list of strings"),
        ({"data": {"source": "x", "train": 3}}, r"data\.val: this field is required"),
        ({"data": {"source": "x", "train": 3, "val": 2, "skipped": ["x"]}}, r"data\.skipped.*: expected"),
        ({"recipe": {"optimizer": {"lr": "fast"}}}, r"recipe\.optimizer\.lr: expected a number, got 'fast'"),
        ({"recipe": {"optimiser": {}}}, r"recipe\.optimiser: no such field.*Did you mean 'optimizer'"),
        ({"recipe": 3}, r"expected the config\.json of a run, with a recipe in it"),
        ({"spec": {"stages": []}}, r"spec\.stages"),
        ({"machine": {"gpu": "x"}}, r"machine\.gpu: no such field"),
        ({"preprocessing": {"size": [8]}}, r"preprocessing\.size: expected a list of 2 integers"),
    ],
)
def test_a_damaged_config_is_named_with_its_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(plain(fake.config()) | changes))
    with pytest.raises(RunError, match=rf"(?s)config\.json: .*{message}"):
        RunConfig.read(tmp_path)


@pytest.mark.parametrize("value", [None, 3, "x", [1], {"a": 1}], ids=repr)
def test_no_wrong_type_in_any_field_becomes_an_error_of_python(value: Any, tmp_path: Path) -> None:
    whole = json.loads((WRITTEN / "runs" / "retinanet" / "config.json").read_text())
    for field in whole:
        (tmp_path / "config.json").write_text(json.dumps(whole | {field: value}))
        try:
            RunConfig.read(tmp_path)
        except RunError as error:
            assert str(error).startswith(f"{tmp_path / 'config.json'}: ")  # noqa: PT017 reading it is right as well


def test_the_config_of_saved_weights_is_not_a_runs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"config\.json: expected the config\.json of a run"):
        RunConfig.read(WRITTEN / "pretrained")
    with pytest.raises(RunError, match=r"config\.json: cannot be read"):
        RunConfig.read(tmp_path)
