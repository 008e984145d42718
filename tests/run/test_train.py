"""Laws of a run: what its folder has, what it refuses, what it never removes, and that resuming changes nothing."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_sets import CLASS_COLORS, class_folder
from rich.console import Console
from test_pins import WRITTEN
from test_pins import tiny_spec as spec_of_pins
from tiny_run import contents, quick, recipe_for

from metaformer.data.loading.loader import BadImageWarning
from metaformer.data.sources import open_labeled
from metaformer.errors import InputError, RunError
from metaformer.files import read_json
from metaformer.inference.loaded import load_any
from metaformer.recipe import Augmentation, DataConfig, Recipe
from metaformer.run.config import RunConfig
from metaformer.run.evaluation_file import read_evaluation
from metaformer.run.folder import RUN_FOLDER, recipe_to_resume
from metaformer.run.train import RunResult, train
from metaformer.tasks.classification.objective import ClassificationMetric
from metaformer.weights.safetensors_io import read_tensors

COMPLETE = {
    "config.json",
    "metrics.csv",
    "evaluation.json",
    "checkpoint.safetensors",
    "best.safetensors",
    "last.safetensors",
    "curves.png",
    "confusion.png",
    "predictions.png",
    "report.html",
}


def same_weights(one: Path, other: Path, name: str = "last.safetensors") -> bool:
    before, after = (read_tensors(folder / name)[0] for folder in (one, other))
    return before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


# ---- what a run writes -----------------------------------------------------------------------------------------------


def test_a_run_folder_is_complete(run: RunResult) -> None:
    names = {path.name for path in run.folder.iterdir()}
    assert names >= COMPLETE
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert all(RUN_FOLDER.is_written(name) for name in names)


def test_the_config_has_what_was_run(run: RunResult, images: Path) -> None:
    config = RunConfig.read(run.folder)
    assert config.recipe == recipe_for(images)
    assert config.classes == ("blue", "green", "red")
    assert (config.data.source, config.data.train, config.data.val, config.data.skipped) == (str(images), 12, 6, ())
    assert (config.command, config.primary, config.task.name) == ("metaformer train ...", "top1", "classification")
    assert config.parameters == run.parameters == sum(p.numel() for p in load_any(run.folder).model.parameters())
    assert config.spec == load_any(run.folder).model.spec


def test_the_last_weights_can_be_evaluated_instead_of_the_best(tmp_path: Path, images: Path) -> None:
    result = quick(recipe_for(images), tmp_path / "run", evaluated="last")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert result.metrics["top1"] == pytest.approx(float(rows[-1]["top1"]))
    assert result.metrics["loss"] == pytest.approx(float(rows[-1]["loss"]), rel=1e-4)


def test_the_same_recipe_gives_the_same_weights(run: RunResult, tmp_path: Path, images: Path) -> None:
    again = quick(recipe_for(images), tmp_path / "again")
    assert same_weights(run.folder, again.folder)


def test_images_from_memory_and_from_files_train_the_same_weights(run: RunResult, tmp_path: Path) -> None:
    """Without augmentation; the run itself kept them in memory, which its recipe leaves open."""
    recipe = RunConfig.read(run.folder).recipe
    assert recipe.data.memory == "auto"
    files = quick(recipe.with_changes(data=recipe.data.with_changes(memory="never")), tmp_path / "files")
    assert same_weights(run.folder, files.folder)
    assert files.metrics == run.metrics


def test_splits_that_are_open_are_not_opened_again_nor_read_twice(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = open_labeled(DataConfig(source=str(images)))
    first = quick(recipe_for(images, epochs=1), tmp_path / "first", splits=splits)
    monkeypatch.setattr("metaformer.data.sources.open_labeled", None)
    read: list[object] = []
    monkeypatch.setattr("metaformer.data.loading.cached_images.load_or_replace", lambda *given: read.append(given))
    second = quick(recipe_for(images, epochs=1), tmp_path / "second", splits=splits)
    assert second.metrics == first.metrics
    assert read == []


def test_without_a_best_epoch_the_last_weights_are_kept_and_evaluated(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = ClassificationMetric.compute
    monkeypatch.setattr(ClassificationMetric, "compute", lambda *given: compute(*given) | {"top1": float("nan")})
    text = io.StringIO()
    result = quick(recipe_for(images), tmp_path, page=True, console=Console(file=text, width=300))
    assert "top-1 was not finite in any epoch" in text.getvalue()
    assert (result.best, result.best_epoch) == (None, 0)
    assert not (tmp_path / "best.safetensors").exists()
    evaluation = read_evaluation(tmp_path)
    assert evaluation is not None
    assert evaluation.weights == "last.safetensors"
    assert "No top-1 was measured yet." in (tmp_path / "report.html").read_text()
    assert load_any(tmp_path).classes == ("blue", "green", "red")
    again = quick(None, tmp_path, resume=True)
    assert again.was_finished
    assert again.best is None


@pytest.mark.parametrize("memory", ["auto", "never"])
def test_an_unreadable_validation_image_ends_no_run_that_may_skip_it(tmp_path: Path, memory: str) -> None:
    images = class_folder(tmp_path / "images")
    broken = images / "val" / "red" / "1.png"
    broken.write_bytes(broken.read_bytes()[:100])
    data = DataConfig(source=str(images), verify="none", on_bad_image="skip", memory=memory)  # type: ignore[arg-type]
    with pytest.warns(BadImageWarning, match=r"red/1\.png is not a readable image"):
        quick(recipe_for(images).with_changes(data=data), tmp_path / "run")
    evaluation = read_evaluation(tmp_path / "run")
    assert evaluation is not None
    assert str(broken) not in {sample.name for sample in evaluation.samples}
    assert len(evaluation.samples) == 5


# ---- what it refuses, and never removes ------------------------------------------------------------------------------


def test_memory_that_the_augmentation_cannot_use_is_refused_before_the_folder_is_touched(
    tmp_path: Path, images: Path
) -> None:
    recipe = recipe_for(images).with_changes(
        data=DataConfig(source=str(images), memory="always"), augmentation=Augmentation(policy="imagenet")
    )
    with pytest.raises(InputError, match=r"data\.memory: expected 'auto' or 'never'"):
        quick(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_names_both_ways_out(run: RunResult, images: Path) -> None:
    before = contents(run.folder)
    with pytest.raises(RunError, match=r"--resume.*--overwrite"):
        quick(recipe_for(images), run.folder)
    assert contents(run.folder) == before


def test_overwriting_removes_what_runs_write_and_no_other_file(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "run"
    quick(recipe_for(images), folder)
    (folder / ".keep").write_text("mine")
    (folder / "checkpoint.previous.safetensors").write_bytes(b"old")
    quick(recipe_for(images, epochs=1), folder, overwrite=True)
    assert (folder / ".keep").read_text() == "mine"
    assert not (folder / "checkpoint.previous.safetensors").exists()
    assert len((folder / "metrics.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("is_run", [True, False])
def test_a_folder_with_anything_else_in_it_is_never_overwritten(tmp_path: Path, images: Path, is_run: bool) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    (tmp_path / "best.safetensors").write_bytes(b"precious")
    if is_run:
        (tmp_path / "config.json").write_text("{}")
    before = contents(tmp_path)
    with pytest.raises(RunError, match=r"notes\.txt"):
        quick(recipe_for(images), tmp_path, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (recipe_for("no/such/folder"), "no folder"),
        (recipe_for("digits", name="adamm"), "adamm"),
        (recipe_for("digits").with_changes(augmentation=Augmentation(auto_augment="nonsense-x")), "auto_augment"),
        (recipe_for("digits").with_changes(task="clasification"), "task: expected one of"),
    ],
)
def test_a_mistake_costs_no_earlier_run(run: RunResult, wrong: Recipe, message: str) -> None:
    before = contents(run.folder)
    with pytest.raises(InputError, match=message):
        quick(wrong, run.folder, overwrite=True)
    assert contents(run.folder) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, images: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/run: .*\(Not a directory\)"):
        quick(recipe_for(images), tmp_path / "file" / "run")


# ---- resuming --------------------------------------------------------------------------------------------------------


def test_resuming_a_finished_run_says_so_and_changes_nothing(run: RunResult, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    before = contents(folder)
    again = quick(None, folder, resume=True)
    assert again.was_finished
    assert not run.was_finished
    assert again.metrics == pytest.approx(run.metrics)
    after = contents(folder)
    for name in ("config.json", "metrics.csv", "best.safetensors", "last.safetensors", "evaluation.json"):
        assert after[name] == before[name], name


@pytest.mark.parametrize("damage", ["remove", "truncate", "change"])
def test_resuming_a_finished_run_evaluates_again_where_the_evaluation_is_damaged(
    run: RunResult, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    path = folder / "evaluation.json"
    if damage == "remove":
        path.unlink()
    else:
        text = path.read_text()
        path.write_text(text[:100] if damage == "truncate" else text.replace('"metrics"', '"metrix"'))
    assert quick(None, folder, resume=True).metrics == pytest.approx(run.metrics)
    assert read_json(path)["metrics"] == pytest.approx(run.metrics)


def test_a_resumed_run_keeps_its_recipe(run: RunResult, images: Path) -> None:
    never = recipe_for(images).with_changes(data=DataConfig(source=str(images), memory="never"))
    with pytest.raises(RunError, match=r"data\.memory: the run .* 'auto', got 'never'"):
        recipe_to_resume(run.folder, never)
    with pytest.raises(RunError, match=r"optimizer\.lr: the run .* 0\.003, got 0\.1"):
        recipe_to_resume(run.folder, recipe_for(images, lr=0.1))
    elsewhere = recipe_for(images).with_changes(data=DataConfig(source=str(images), workers=2))
    assert recipe_to_resume(run.folder, elsewhere).data.workers == 2
    assert recipe_to_resume(run.folder, None) == recipe_for(images)


def test_a_run_is_resumed_only_on_its_own_images(run: RunResult, tmp_path: Path) -> None:
    images = class_folder(tmp_path / "images")
    moved = recipe_for(images)
    (images / "train" / "red" / "3.png").unlink()
    with pytest.raises(RunError, match="12 training images, now there are 11"):
        quick(moved, run.folder, resume=True)
    class_folder(images, colors={**CLASS_COLORS, "white": (240, 240, 240)})
    with pytest.raises(RunError, match="the model has 3 classes, the dataset has 4"):
        quick(moved, run.folder, resume=True)


@pytest.mark.parametrize("interrupted", [True, False], ids=["interrupted", "finished"])
def test_a_run_of_0_1_0_is_resumed_exactly(tmp_path: Path, interrupted: bool) -> None:
    """Its checkpoint, config.json and metrics.csv have the former names; the run went on in 0.1.0 as well."""
    folder = tmp_path / "run"
    shutil.copytree(WRITTEN / "interrupted", folder)
    if not interrupted:
        resumed(folder)
    result = resumed(folder)
    assert result.was_finished != interrupted
    tensors, header = read_tensors(folder / "last.safetensors")
    expected, _ = read_tensors(WRITTEN / "continued" / "last.safetensors")
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=0, atol=1e-6)
    assert header["epoch"] == "2"
    assert result.metrics == pytest.approx(read_evaluation(WRITTEN / "continued").metrics, rel=1e-5)  # type: ignore[union-attr]
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(value for row in rows for value in row.values())
    assert RunConfig.read(folder) == RunConfig.read(WRITTEN / "interrupted")


def resumed(folder: Path) -> RunResult:
    result: Any = train(None, folder, resume=True, spec=spec_of_pins(1, 10), page=False, console=Console(quiet=True))
    return result
