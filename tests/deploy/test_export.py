"""From a trained model to files and back: what is written answers as the original, and what is there is not lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import SIDE, apart, model_of, named, random_images, spec_of

import metaformer
from metaformer.cli.app import main
from metaformer.deploy import export as exporting
from metaformer.deploy.compile import FellBackWarning
from metaformer.deploy.engines import openvino
from metaformer.deploy.export import ABOUT, load_exported
from metaformer.errors import InputError
from metaformer.recipe import DataConfig, Recipe

CLASSES = ("blue", "dark", "green", "light", "red")
SPEC = spec_of(named("pooling"), named("spatial_fc"))
FILES = {
    "onnx": {"model.onnx"},
    "openvino": {"model.xml", "model.bin"},
    "torch": {"model.pt2"},
    "safetensors": {"model.safetensors"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images of five classes."""
    folder, draws = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for i in range(4):
            pixels = np.clip(50 * number + draws.integers(-50, 50, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """What a run leaves: its best weights and the recipe it was begun with."""
    folder = tmp_path_factory.mktemp("run")
    metaformer.save_weights(model_of(SPEC), folder / "best.safetensors", classes=CLASSES)
    recipe = Recipe(data=DataConfig(source=str(data))).to_dict()
    (folder / "config.json").write_text(json.dumps({"recipe": recipe}))
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, " ".join(err.split())


@pytest.mark.parametrize("kind", FILES)
def test_round_trip(kind: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "exported"
    status, told, complaint = said(capsys, "export", "--weights", run, "--format", kind, "--out", out, "--json")
    assert status == 0, complaint
    answer = json.loads(told)
    assert answer["difference"] < 1e-4
    assert answer["images"] > 0
    assert answer["before"]["top1"] == answer["after"]["top1"]
    assert {file.name for file in out.iterdir()} == {ABOUT, *FILES[kind]}
    about = json.loads((out / ABOUT).read_text())
    assert about["model"]["classes"] == list(CLASSES)
    assert about["model"]["preprocessing"]["size"] == [SIDE, SIDE]
    assert about["comparison"]["difference"] == answer["difference"]
    assert "torch" in about["versions"]
    fast, model = load_exported(out, threads=1), model_of(SPEC)
    for count in (1, 3):
        images = random_images(count)
        with torch.no_grad():
            assert apart(fast(images), model(images)) < 1e-4
    assert (fast.num_classes, fast.precision) == (5, "fp32")


def test_int8_shows_accuracy_before_and_after(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "exported"
    status, told, complaint = said(
        capsys, "export", "--weights", run, "--format", "openvino", "--precision", "int8", "--out", out
    )
    assert status == 0, complaint
    assert "before" in told
    assert "after" in told
    assert "openvino int8, largest difference" in told
    assert load_exported(out).precision == "int8"


def test_nothing_is_overwritten_unasked(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "exported"
    words = ("export", "--weights", run, "--format", "safetensors", "--out", out)
    assert said(capsys, *words)[0] == 0
    written = (out / ABOUT).stat().st_mtime_ns
    status, _, complaint = said(capsys, *words)
    assert status == 2
    assert "--overwrite" in complaint
    assert (out / ABOUT).stat().st_mtime_ns == written
    assert said(capsys, *words, "--overwrite")[0] == 0
    assert (out / ABOUT).stat().st_mtime_ns > written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported"]


def test_a_folder_of_others_is_never_replaced(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    status, _, complaint = said(capsys, "export", "--weights", run, "--out", tmp_path, "--overwrite")
    assert status == 2
    assert "letter.txt" in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_another_answer_is_left_under_a_name_that_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(*_: Any) -> Any:
        return lambda images: (torch.zeros(len(images), 5),)

    out = tmp_path / "exported"
    with patch.object(openvino, "runner", wrong):
        status, _, complaint = said(capsys, "export", "--weights", run, "--format", "openvino", "--out", out)
    assert status == 2
    assert "answers differently: by 1.0e+00" in complaint
    assert [path.name for path in tmp_path.iterdir()] == ["exported-differs"]


def test_a_failure_leaves_nothing(run: Path, tmp_path: Path) -> None:
    def broken(*_: Any) -> Any:
        raise InputError("no such operation")

    with patch.object(openvino, "converted", broken), pytest.raises(InputError, match="no such operation"):
        exporting.export(run, tmp_path / "exported", format="openvino")
    assert not list(tmp_path.iterdir())


def test_without_images_drawn_ones_are_compared(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run / "best.safetensors").read_bytes())
    with pytest.warns(FellBackWarning, match="drawn ones"):
        result = exporting.export(alone, tmp_path / "exported", format="safetensors")
    assert result.images > 0
    assert not result.before


def test_int8_wants_images(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run / "best.safetensors").read_bytes())
    with pytest.raises(InputError, match="--data"):
        exporting.export(alone, tmp_path / "exported", format="openvino", precision="int8")


@pytest.mark.parametrize(
    ("words", "said_of_it"),
    [
        ({"format": "onyx"}, "onnx"),
        ({"precision": "int7"}, "int8"),
        ({"format": "safetensors", "precision": "int8"}, "as they were trained"),
    ],
)
def test_choices_that_do_not_go(words: dict[str, str], said_of_it: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said_of_it):
        exporting.export(run, tmp_path / "exported", **words)


def test_bf16_falls_back_where_onnx_runtime_has_none(run: Path, tmp_path: Path) -> None:
    with pytest.warns(FellBackWarning, match="bf16 was asked for and fp32 is used"):
        result = exporting.export(run, tmp_path / "exported", format="onnx", precision="bf16")
    assert result.precision == "fp32"


def test_another_size_for_a_model_of_any_size(tmp_path: Path, data: Path) -> None:
    file = tmp_path / "free.safetensors"
    metaformer.save_weights(model_of(spec_of(named("identity"))), file, classes=CLASSES)
    exporting.export(file, tmp_path / "it", format="safetensors", data=DataConfig(source=str(data)), size=(32, 64))
    assert load_exported(tmp_path / "it").preprocessing.size == (32, 64)


@pytest.mark.parametrize("damage", ["", "[]", '{"format": "onnx"}'])
def test_what_is_no_export(damage: str, tmp_path: Path) -> None:
    if damage:
        (tmp_path / ABOUT).write_text(damage)
    with pytest.raises(InputError, match=r"no export here|cannot be read|not written by"):
        load_exported(tmp_path)


def test_machine_code_of_another_machine(run: Path, tmp_path: Path) -> None:
    exporting.export(run, tmp_path / "it", format="safetensors")
    about = json.loads((tmp_path / "it" / ABOUT).read_text())
    about |= {"format": "aot", "versions": {"machine": "vax"}}
    (tmp_path / "it" / ABOUT).write_text(json.dumps(about))
    with pytest.raises(InputError, match="machine code for vax"):
        load_exported(tmp_path / "it")


@pytest.mark.parametrize("key", ["format", "precision", "model", "size", "multiple", "folded", "versions"])
def test_a_field_of_another_type_is_named(key: str, run: Path, tmp_path: Path) -> None:
    exporting.export(run, tmp_path / "it", format="safetensors")
    about = json.loads((tmp_path / "it" / ABOUT).read_text())
    (tmp_path / "it" / ABOUT).write_text(json.dumps(about | {key: 17.5}))
    with pytest.raises(InputError, match=f"{key} is wrong"):
        load_exported(tmp_path / "it")


def test_an_empty_graph_says_where_it_lies(run: Path, tmp_path: Path) -> None:
    exporting.export(run, tmp_path / "it", format="onnx")
    (tmp_path / "it" / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"it: .*export again"):
        load_exported(tmp_path / "it")


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_round_trip_of_machine_code(run: Path, tmp_path: Path) -> None:
    exporting.export(run, tmp_path / "it", format="aot")
    images = random_images(3)
    with torch.no_grad():
        assert apart(load_exported(tmp_path / "it")(images), model_of(SPEC)(images)) < 1e-4
