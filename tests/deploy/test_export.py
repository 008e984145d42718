"""From a trained model to files and back: outputs are those of the original, and existing files are not lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
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
from metaformer.deploy.export_info import ExportInfo
from metaformer.errors import InputError
from metaformer.recipe import DataConfig, Recipe
from metaformer.run.config import DataSummary, RunConfig

CLASSES = ("blue", "dark", "green", "light", "red")
SPEC = spec_of(named("pooling"), named("spatial_fc"))
WRITTEN = Path(__file__).parents[1] / "version_0_1_0"
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
    """A run's folder: its best weights and its config.json."""
    folder = tmp_path_factory.mktemp("run")
    model, recipe = model_of(SPEC), Recipe(data=DataConfig(source=str(data)))
    metaformer.save_weights(model, folder / "best.safetensors", classes=CLASSES)
    RunConfig(
        recipe=recipe,
        name=model.name,
        spec=SPEC,
        preprocessing=model.preprocessing,
        classes=CLASSES,
        data=DataSummary(source=str(data), train=15, val=5),
        parameters=1,
        macs=1,
    ).write(folder)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """An export that tests read and do not change."""
    return exporting.export(run, tmp_path_factory.mktemp("exports") / "it", format="safetensors").folder


@pytest.fixture
def damaged(tmp_path: Path, exported: Path) -> Callable[..., Path]:
    """A copy of the export with other fields in its export.json."""

    def change(**fields: Any) -> Path:
        folder = Path(shutil.copytree(exported, tmp_path / "it"))
        about = json.loads((folder / ABOUT).read_text())
        (folder / ABOUT).write_text(json.dumps(about | fields))
        return folder

    return change


def run_command(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, " ".join(err.split())


@pytest.mark.parametrize("kind", FILES)
def test_round_trip(kind: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "exported"
    status, printed, problem = run_command(capsys, "export", "--weights", run, "--format", kind, "--out", out, "--json")
    assert status == 0, problem
    document = json.loads(printed)
    assert document["difference"] < 1e-4
    assert document["images"] > 0
    assert document["before"]["top1"] == document["after"]["top1"]
    assert {file.name for file in out.iterdir()} == {ABOUT, *FILES[kind]}
    about = json.loads((out / ABOUT).read_text())
    assert about["model"]["classes"] == list(CLASSES)
    assert about["model"]["preprocessing"]["size"] == [SIDE, SIDE]
    assert about["comparison"]["difference"] == document["difference"]
    assert "torch" in about["versions"]
    fast, model = load_exported(out, threads=1), model_of(SPEC)
    for count in (1, 3):
        images = random_images(count)
        with torch.no_grad():
            assert apart(fast(images), model(images)) < 1e-4
    assert (fast.num_classes, fast.precision) == (5, "fp32")


def test_int8_shows_accuracy_before_and_after(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "exported"
    status, printed, problem = run_command(
        capsys, "export", "--weights", run, "--format", "openvino", "--precision", "int8", "--out", out
    )
    assert status == 0, problem
    assert "before" in printed
    assert "after" in printed
    assert "openvino int8, largest difference" in printed
    assert load_exported(out).precision == "int8"


def test_an_export_is_replaced_only_with_overwrite(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "exported"
    command = ("export", "--weights", run, "--format", "safetensors", "--out", out)
    assert run_command(capsys, *command)[0] == 0
    written = (out / ABOUT).stat().st_mtime_ns
    status, _, problem = run_command(capsys, *command)
    assert status == 2
    assert "--overwrite" in problem
    assert (out / ABOUT).stat().st_mtime_ns == written
    assert run_command(capsys, *command, "--overwrite")[0] == 0
    assert (out / ABOUT).stat().st_mtime_ns > written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported"]


def test_a_folder_with_other_files_is_never_replaced(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    status, _, problem = run_command(capsys, "export", "--weights", run, "--out", tmp_path, "--overwrite")
    assert status == 2
    assert "letter.txt" in problem
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_wrong_export_is_kept_under_a_name_that_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(*_: Any) -> Any:
        return lambda images: (torch.zeros(len(images), 5),)

    out = tmp_path / "exported"
    with patch.object(openvino, "runner", wrong):
        status, _, problem = run_command(capsys, "export", "--weights", run, "--format", "openvino", "--out", out)
    assert status == 2
    assert "outputs differ by 1.0e+00" in problem
    assert [path.name for path in tmp_path.iterdir()] == ["exported-differs"]


def test_a_failure_leaves_nothing(run: Path, tmp_path: Path) -> None:
    def broken(*_: Any) -> Any:
        raise InputError("no such operation")

    with patch.object(openvino, "converted", broken), pytest.raises(InputError, match="no such operation"):
        exporting.export(run, tmp_path / "exported", format="openvino")
    assert not list(tmp_path.iterdir())


def test_without_images_random_ones_are_compared(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run / "best.safetensors").read_bytes())
    with pytest.warns(FellBackWarning, match="random ones"):
        result = exporting.export(alone, tmp_path / "exported", format="safetensors")
    assert result.comparison.images > 0
    assert not result.comparison.before


def test_int8_needs_images(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run / "best.safetensors").read_bytes())
    with pytest.raises(InputError, match="--data"):
        exporting.export(alone, tmp_path / "exported", format="openvino", precision="int8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onyx"}, "onnx"),
        ({"precision": "int7"}, "int8"),
        ({"format": "safetensors", "precision": "int8"}, "trained weights in fp32"),
    ],
)
def test_unknown_choices_are_refused(options: dict[str, str], message: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        exporting.export(run, tmp_path / "exported", **options)


def test_a_missing_precision_and_a_damaged_graph_are_named(run: Path, tmp_path: Path) -> None:
    """ONNX Runtime has no bf16. One export serves both checks."""
    with pytest.warns(FellBackWarning, match="bf16 was requested and fp32 is used"):
        result = exporting.export(run, tmp_path / "it", format="onnx", precision="bf16")
    assert result.info.precision == "fp32"
    assert "fp32 is used" in result.info.notes[0]
    (tmp_path / "it" / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"it: .*export again"):
        load_exported(tmp_path / "it")


def test_another_size_for_a_model_of_any_size(tmp_path: Path, data: Path) -> None:
    file = tmp_path / "free.safetensors"
    metaformer.save_weights(model_of(spec_of(named("identity"))), file, classes=CLASSES)
    exporting.export(file, tmp_path / "it", format="safetensors", data=DataConfig(source=str(data)), size=(32, 64))
    assert load_exported(tmp_path / "it").preprocessing.size == (32, 64)


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"format": "onnx"}'])
def test_a_folder_without_an_export_is_refused(damage: str, tmp_path: Path) -> None:
    if damage:
        (tmp_path / ABOUT).write_text(damage)
    problems = r"no export here|export\.json: (not valid JSON|expected a JSON object|precision: this field is required)"
    with pytest.raises(InputError, match=problems):
        load_exported(tmp_path)


def test_machine_code_of_another_machine(damaged: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="machine code for vax"):
        load_exported(damaged(format="aot", versions={"machine": "vax"}))


@pytest.mark.parametrize("key", ["format", "precision", "model", "size", "multiple", "folded", "versions"])
def test_a_damaged_field_is_named(key: str, damaged: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=rf"export\.json: {key}: expected"):
        load_exported(damaged(**{key: 17.5}))


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_round_trip_of_machine_code(run: Path, tmp_path: Path) -> None:
    exporting.export(run, tmp_path / "it", format="aot")
    images = random_images(3)
    with torch.no_grad():
        assert apart(load_exported(tmp_path / "it")(images), model_of(SPEC)(images)) < 1e-4


def test_export_json_is_read_as_it_was_written(exported: Path) -> None:
    info = ExportInfo.read(exported)
    assert ExportInfo.from_dict(info.to_dict()) == info
    assert info.comparison.images > 0


@pytest.mark.parametrize("kind", ["onnx", "safetensors"])
def test_exports_of_version_0_1_0_are_read(kind: str) -> None:
    folder = WRITTEN / f"export-{kind}"
    fast, info = load_exported(folder), ExportInfo.read(folder)
    model = metaformer.load_model(WRITTEN / "export-safetensors" / "model.safetensors")
    images = torch.randn(3, model.spec.in_chans, *model.preprocessing.size)
    with torch.no_grad():
        assert apart(fast(images), model(images)) < 1e-4
    assert (info.format, info.versions["metaformer"]) == (kind, "0.1.0")
    assert ExportInfo.from_dict(info.to_dict()) == info
