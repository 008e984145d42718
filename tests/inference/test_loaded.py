"""Weights say which model they are, and refuse to be another's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import NAMES

from metaformer.errors import WeightsError
from metaformer.factory.classifier import create_model
from metaformer.inference.loaded import imagenet_classes, is_published, load_any, task_of
from metaformer.tasks.task import TASKS


@pytest.mark.parametrize("task", TASKS)
def test_weights_say_their_task_and_their_classes(weights: dict[str, Path], task: str) -> None:
    loaded = load_any(weights[task])
    assert (loaded.task, loaded.classes, loaded.class_names) == (task, NAMES, NAMES)
    assert task_of(weights[task]) == task
    assert loaded.origin == str(weights[task])
    assert not loaded.model.training


def test_wrong_names_and_missing_weights_are_refused(weights: dict[str, Path]) -> None:
    with pytest.raises(WeightsError, match=r"these are weights of .*, expected poolformer_s12; leave out --model"):
        load_any(weights["classification"], "poolformer_s12")
    with pytest.raises(WeightsError, match=r"Did you mean .*'poolformer_s12'"):
        load_any("poolformer_s1")
    with pytest.raises(WeightsError, match="no weights given; pass --weights"):
        load_any()


def test_a_third_party_checkpoint_needs_as_many_classes(tmp_path: Path) -> None:
    model = create_model("poolformer_s12", num_classes=7)
    path = tmp_path / "theirs.pth"
    torch.save(model.state_dict(), path)
    assert load_any(path, "poolformer_s12", num_classes=7).class_names[3] == "class 3"
    with pytest.raises(WeightsError, match="the classifier layer does not match the 1000 classes expected"):
        load_any(path, "poolformer_s12")


def test_a_model_name_is_published_unless_there_is_such_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_published("poolformer_s12")
    assert not is_published("poolformer_s1")
    Path("poolformer_s12").mkdir()
    assert not is_published("poolformer_s12")


def test_imagenet_has_its_names() -> None:
    names = imagenet_classes(1000)
    assert names is not None
    assert names[207] == "golden retriever"
    assert imagenet_classes(17) is None
