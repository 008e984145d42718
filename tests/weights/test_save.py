"""One file is enough to build the model again."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

import metaformer
from metaformer.errors import InputError, WeightsError
from metaformer.weights.load import load_weights
from metaformer.weights.save import load_model, read_description, save_weights

CLASSES = ("ant", "bee", "cat", "dog", "eel")


class Mean(nn.Module):
    """A user's mixer: the mean of all tokens, scaled."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x, grid, mask=None):
        return x.mean(1, keepdim=True).expand_as(x) * self.scale


@pytest.mark.parametrize("changes", [{}, {"in_chans": 1}, {"stem_stride": 2}, {"mixers": "pooling(kernel=5)"}])
def test_a_saved_model_is_read_back_complete(tiny, tmp_path: Path, changes: dict) -> None:
    model = tiny(**changes)
    again = load_model(save_weights(model, tmp_path / "model.safetensors", classes=CLASSES))
    assert again.spec == model.spec
    assert again.preprocessing == model.preprocessing
    assert again.name == model.name
    assert not again.training
    images = torch.randn(2, model.spec.in_chans, 64, 64)
    assert torch.equal(again(images), model(images))


def test_the_header_says_what_the_file_is(tiny, tmp_path: Path) -> None:
    path = save_weights(tiny(), tmp_path / "model.safetensors", classes=CLASSES, extra={"epoch": "3"})
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert header["format"] == "pt"
    assert header["epoch"] == "3"
    content = json.loads(header["metaformer"])
    assert content["classes"] == list(CLASSES)
    assert content["version"] == metaformer.__version__
    assert {"name", "spec", "preprocessing"} <= content.keys()
    assert read_description(path).classes == CLASSES


def test_class_names_have_to_fit_the_scores(tiny, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="classes: expected 5 names, got 2"):
        save_weights(tiny(), tmp_path / "model.safetensors", classes=("a", "b"))
    assert not (tmp_path / "model.safetensors").exists()


def test_a_mixer_of_ones_own_has_to_be_passed_again(tiny, tmp_path: Path) -> None:
    model = tiny(mixers=["pooling", "pooling", Mean, Mean])
    path = save_weights(model, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"Mean.*pass them as mixers="):
        load_model(path)
    again = load_model(path, mixers=["pooling", "pooling", Mean, Mean])
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(again(images), model(images))


def test_a_mixer_of_ones_own_inside_a_window_does_not_stop_a_save(tiny, tmp_path: Path) -> None:
    mixers = {"name": "window", "window": 4, "mixer": Mean}
    model = tiny(mixers=mixers)
    path = save_weights(model, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"\(window of Mean\).*pass them as mixers="):
        load_model(path)
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(load_model(path, mixers=mixers)(images), model(images))


def test_what_may_change_while_loading(tiny_hybrid, tmp_path: Path) -> None:
    path = save_weights(tiny_hybrid(), tmp_path / "model.safetensors")
    again = load_model(path, num_classes=2, img_size=128, drop_path_rate=0.1)
    assert again(torch.randn(1, 3, 128, 128)).shape == (1, 2)
    assert again.preprocessing.size == (128, 128)
    with pytest.raises(InputError, match=r"num_class: cannot be changed.*Did you mean 'num_classes'"):
        load_model(path, num_class=2)


def test_a_file_without_a_description_is_refused_with_advice(tiny, tmp_path: Path) -> None:
    from metaformer.weights.safetensors_io import write_tensors

    path = tmp_path / "bare.safetensors"
    write_tensors(path, tiny().state_dict())
    with pytest.raises(WeightsError, match=r"create_model\(NAME\).*load_weights"):
        load_model(path)
    load_weights(tiny(), path)


def test_a_damaged_description_is_named(tiny, tmp_path: Path) -> None:
    from metaformer.weights.safetensors_io import write_tensors

    path = tmp_path / "odd.safetensors"
    content = {"name": "x", "spec": {"stages": [{"depth": "two", "width": 8}]}, "preprocessing": {}}
    write_tensors(path, tiny().state_dict(), {"metaformer": json.dumps(content)})
    with pytest.raises(WeightsError, match=r"spec\.stages\[0\]\.depth: expected an integer, got 'two'"):
        load_model(path)


def test_a_folder_gives_its_best_weights(tiny, tmp_path: Path) -> None:
    model = tiny()
    save_weights(model, tmp_path / "best.safetensors")
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(load_model(tmp_path)(images), model.eval()(images))


def test_a_mistyped_path_names_its_neighbor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "flowers").mkdir(parents=True)
    with pytest.raises(
        WeightsError, match=r"runs/flower: no such file or folder here \(Did you mean 'runs/flowers'\?\)"
    ):
        load_weights(torch.nn.Linear(1, 1), "runs/flower")
