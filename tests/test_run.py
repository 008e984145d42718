"""Laws of a run: what its folder holds, what it refuses, what it never removes, and that resuming changes nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from metaformer.data.dataset import concatenate
from metaformer.data.sources import open_labeled
from metaformer.errors import DataError, InputError, RunError, WeightsError
from metaformer.factory.classifier import create_model
from metaformer.inference.loaded import imagenet_classes, load_any
from metaformer.recipe import Augmentation, DataConfig, ModelConfig, OptimizerConfig, Recipe
from metaformer.run import folder as run_folder
from metaformer.run.evaluate import evaluate
from metaformer.run.train import RunResult, train
from metaformer.spec.model import EmbeddingSpec, ModelSpec, StageSpec
from metaformer.tasks.classification.task import fitted_model, fitting_stride
from metaformer.weights.safetensors_io import read_tensors
from metaformer.zoo.catalogue import find

QUIET = Console(quiet=True)
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
COLORS = {"blue": (40, 60, 200), "green": (30, 180, 60), "red": (210, 50, 40)}


def painted(folder: Path, count: int = 4, colors: dict[str, tuple[int, int, int]] = COLORS) -> Path:
    """Noisy images of one color a class, in train/ and val/."""
    rng = np.random.default_rng(0)
    for part, number in (("train", count), ("val", 2)):
        for name, color in colors.items():
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(number):
                pixels = np.clip(np.array(color) + rng.integers(-30, 30, (12, 10, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"{i}.png")
    return folder


def tiny_spec() -> ModelSpec:
    """Two blocks, for images of 8 × 8."""
    stages = (
        StageSpec(depth=1, width=8, embedding=EmbeddingSpec(stride=1)),
        StageSpec(depth=1, width=16),
    )
    return ModelSpec(stages=stages, img_size=(8, 8))


def plan(data: Path | str, **moves: object) -> Recipe:
    """Two quick epochs."""
    return Recipe(
        data=DataConfig(source=str(data)),
        augmentation=Augmentation(policy="none"),
        optimizer=OptimizerConfig(**{"epochs": 2, "batch_size": 6, "lr": 3e-3, **moves}),  # type: ignore[arg-type]
    )


def quick(recipe: Recipe | None, folder: Path, **more: object) -> RunResult:
    """``train`` with the tiny model, silent."""
    result = train(recipe, folder, spec=tiny_spec(), console=QUIET, **more)  # type: ignore[arg-type]
    assert result is not None
    return result


@pytest.fixture(scope="module")
def random_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, images: Path) -> RunResult:
    """One finished run that tests only look at."""
    return quick(plan(images), tmp_path_factory.mktemp("runs") / "run", command="metaformer train ...")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_folder_is_complete(run: RunResult) -> None:
    names = {path.name for path in run.folder.iterdir()}
    assert names >= COMPLETE
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert all(run_folder.is_written(name) for name in names)


def test_the_config_says_what_was_run(run: RunResult, images: Path) -> None:
    config = json.loads((run.folder / "config.json").read_text())
    assert Recipe.from_dict(config["recipe"]) == plan(images)
    assert config["classes"] == ["blue", "green", "red"]
    assert config["data"] == {"source": str(images), "train": 12, "val": 6, "skipped": []}
    assert config["command"] == "metaformer train ..."
    assert config["parameters"] == run.parameters == sum(p.numel() for p in load_any(run.folder).model.parameters())
    assert ModelSpec.from_dict(config["spec"]).num_classes == 3


def test_the_evaluation_is_that_of_the_weights_it_names(run: RunResult, images: Path) -> None:
    written = json.loads((run.folder / "evaluation.json").read_text())
    assert np.sum(written["confusion"]) == written["images"] == 6
    assert len(written["samples"]) == 6
    again = evaluate(run.folder / written["weights"], DataConfig(source=str(images)), console=QUIET)
    assert again.metrics == pytest.approx(written["metrics"], rel=1e-5)
    assert again.confusion == written["confusion"]


def test_the_last_weights_can_be_judged_instead_of_the_best(tmp_path: Path, images: Path) -> None:
    result = quick(plan(images), tmp_path / "run", evaluated="last")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert result.metrics["top1"] == pytest.approx(float(rows[-1]["top1"]))
    assert result.metrics["loss"] == pytest.approx(float(rows[-1]["loss"]), rel=1e-4)


def test_the_same_recipe_gives_the_same_weights(run: RunResult, tmp_path: Path, images: Path) -> None:
    again = quick(plan(images), tmp_path / "again")
    before, after = (read_tensors(folder / "last.safetensors")[0] for folder in (run.folder, again.folder))
    assert all(torch.equal(before[name], after[name]) for name in before | after)


def test_images_from_memory_and_from_files_train_the_same_weights(run: RunResult, tmp_path: Path) -> None:
    """Without variation; the run itself kept them in memory, which its recipe leaves open."""
    recipe = run_folder.RunConfig.read(run.folder).recipe
    assert recipe.data.memory == "auto"
    files = quick(recipe.with_changes(data=recipe.data.with_changes(memory="never")), tmp_path / "files")
    before, after = (read_tensors(folder / "last.safetensors")[0] for folder in (run.folder, files.folder))
    assert all(torch.equal(before[name], after[name]) for name in before | after)
    assert files.metrics == run.metrics


def test_images_that_are_open_are_not_opened_again_nor_read_twice(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = open_labeled(DataConfig(source=str(images)))
    first = quick(plan(images, epochs=1), tmp_path / "first", splits=sets)
    monkeypatch.setattr("metaformer.data.sources.open_labeled", None)
    read: list[object] = []
    monkeypatch.setattr("metaformer.data.loading.cached_images.load_or_replace", lambda *given: read.append(given))
    second = quick(plan(images, epochs=1), tmp_path / "second", splits=sets)
    assert second.metrics == first.metrics
    assert read == []


def test_memory_that_the_augmentation_cannot_use_is_refused_before_the_folder_is_touched(
    tmp_path: Path, images: Path
) -> None:
    recipe = plan(images).with_changes(
        data=DataConfig(source=str(images), memory="always"), augmentation=Augmentation(policy="imagenet")
    )
    with pytest.raises(InputError, match=r"data\.memory: expected 'auto' or 'never'"):
        quick(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resuming_a_finished_run_says_so_and_moves_nothing(tmp_path: Path, images: Path) -> None:
    first = quick(plan(images), tmp_path / "run")
    before = contents(first.folder)
    again = quick(None, first.folder, resume=True)
    assert again.was_finished
    assert not first.was_finished
    assert again.metrics == pytest.approx(first.metrics)
    after = contents(first.folder)
    for name in ("config.json", "metrics.csv", "best.safetensors", "last.safetensors", "evaluation.json"):
        assert after[name] == before[name], name


def test_a_folder_with_a_run_names_both_cures(run: RunResult, images: Path) -> None:
    before = contents(run.folder)
    with pytest.raises(RunError, match=r"--resume.*--overwrite"):
        quick(plan(images), run.folder)
    assert contents(run.folder) == before


def test_overwriting_removes_what_runs_write_and_nothing_hidden(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "run"
    quick(plan(images), folder)
    (folder / ".keep").write_text("mine")
    (folder / "checkpoint.previous.safetensors").write_bytes(b"old")
    quick(plan(images, epochs=1), folder, overwrite=True)
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
        quick(plan(images), tmp_path, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (plan("no/such/folder"), "no folder"),
        (plan("digits", name="adamm"), "adamm"),
        (plan("digits").with_changes(augmentation=Augmentation(auto_augment="nonsense-x")), "auto_augment"),
    ],
)
def test_a_mistake_costs_no_earlier_run(tmp_path: Path, images: Path, wrong: Recipe, message: str) -> None:
    quick(plan(images, epochs=1), tmp_path / "run")
    before = contents(tmp_path / "run")
    with pytest.raises(InputError, match=message):
        quick(wrong, tmp_path / "run", overwrite=True)
    assert contents(tmp_path / "run") == before


def test_a_resumed_run_keeps_its_recipe(run: RunResult, images: Path) -> None:
    never = plan(images).with_changes(data=DataConfig(source=str(images), memory="never"))
    with pytest.raises(RunError, match=r"data\.memory: the run .* 'auto', got 'never'"):
        run_folder.resumed(run.folder, never)
    with pytest.raises(RunError, match=r"optimizer\.lr: the run .* 0\.003, got 0\.1"):
        run_folder.resumed(run.folder, plan(images, lr=0.1))
    elsewhere = plan(images).with_changes(data=DataConfig(source=str(images), workers=2))
    assert run_folder.resumed(run.folder, elsewhere).data.workers == 2
    assert run_folder.resumed(run.folder, None) == plan(images)


def test_a_run_is_resumed_only_on_its_own_images(tmp_path: Path) -> None:
    images = painted(tmp_path / "images")
    quick(plan(images), tmp_path / "run")
    (images / "train" / "red" / "3.png").unlink()
    with pytest.raises(RunError, match="12 training images, now there are 11"):
        quick(None, tmp_path / "run", resume=True)
    painted(images, colors={**COLORS, "white": (240, 240, 240)})
    with pytest.raises(RunError, match="know 3 classes, the data has 4"):
        quick(None, tmp_path / "run", resume=True)


def test_there_must_be_a_run_to_resume(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run to resume"):
        quick(None, tmp_path / "nothing", resume=True)
    with pytest.raises(RunError, match="give one of them"):
        run_folder.check(tmp_path, resume=True, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        run_folder.check(tmp_path / "file")


@pytest.mark.parametrize(("size", "stride"), [(8, 1), (28, 1), (32, 1), (64, 2), (96, 2), (128, None), (224, None)])
def test_the_stem_steps_less_for_small_images(size: int, stride: int | None) -> None:
    spec = find("poolformer_s12").spec
    assert fitting_stride(spec, (size, size)) == stride
    if size >= 28:
        last = spec.with_stem_stride(stride or 4).grids((size, size))[-1]
        assert min(last) > 1, "the published stem would leave a single token"


@pytest.mark.parametrize(("size", "patch"), [(8, 1), (28, 3), (32, 4), (64, 8), (224, None)])
def test_patches_shrink_with_the_images(size: int, patch: int | None) -> None:
    spec = find("deit_tiny_patch16_224").spec
    assert fitting_stride(spec, (size, size)) == patch
    assert min(spec.with_stem_stride(patch or 16).grids((size, size))[0]) >= 8
    assert fitting_stride(find("resnet18").spec, (size, size)) is None


def test_a_model_is_fitted_to_small_gray_images() -> None:
    sets = open_labeled(DataConfig(source="digits"))
    model, notes = fitted_model(Recipe(), sets)
    assert (model.spec.in_chans, model.spec.num_classes) == (1, 10)
    assert model.preprocessing.size == (8, 8)
    assert model.preprocessing.crop == 1.0
    assert any("stem stride 1" in note for note in notes)
    asked = Recipe(model=ModelConfig(img_size=32, stem_stride=2, in_chans=3), augmentation=Augmentation(crop=0.9))
    model, notes = fitted_model(asked, sets)
    assert model.spec.img_size == (32, 32)
    assert (model.spec.in_chans, model.preprocessing.crop) == (3, 0.9)
    assert model.spec.stages[0].embedding.stride == 2
    assert notes == []


def test_evaluating_writes_only_where_asked(run: RunResult, tmp_path: Path) -> None:
    before = contents(run.folder)
    result = evaluate(run.folder, part="all", console=QUIET)
    assert contents(run.folder) == before
    assert result.images == 18
    evaluate(run.folder, out=tmp_path / "out", console=QUIET)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "evaluation.json",
        "confusion.png",
        "predictions.png",
    }
    with pytest.raises(RunError, match="run's folder"):
        evaluate(run.folder, out=run.folder, console=QUIET)


def test_a_folder_in_one_piece_that_was_not_trained_on_is_evaluated_whole(run: RunResult, tmp_path: Path) -> None:
    other = painted(tmp_path / "other")
    named = DataConfig(source=str(other / "train"))
    assert evaluate(run.folder, named, console=QUIET).images == 12
    assert evaluate(run.folder, named, part="val", console=QUIET).images < 12
    assert evaluate(run.folder / "best.safetensors", named, console=QUIET).images == 12
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run.folder / "best.safetensors").read_bytes())
    assert evaluate(alone, named, console=QUIET).images < 12, "it may have been trained on these images"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, images: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/run: the run's folder cannot be created \(Not a directory\)"):
        quick(plan(images), tmp_path / "file" / "run")


def test_other_classes_are_told_apart(run: RunResult, tmp_path: Path) -> None:
    other = painted(tmp_path / "other", colors={"blue": (0, 0, 250), "green": (0, 250, 0), "pink": (250, 150, 150)})
    with pytest.raises(DataError, match="red only in the weights, pink only in the data"):
        evaluate(run.folder, DataConfig(source=str(other)), console=QUIET)
    assert "another order" in run_folder.class_difference(("a", "b"), ("b", "a"))
    with pytest.raises(DataError, match="which images"):
        evaluate(None, name="poolformer_s12", console=QUIET)


def test_two_parts_together_are_both(images: Path) -> None:
    sets = open_labeled(DataConfig(source=str(images)))
    both = concatenate(sets.train, sets.val)
    names = [both.name(i) for i in range(len(both))]
    parts = [part.name(i) for part in (sets.train, sets.val) for i in range(len(part))]
    assert names == parts
    assert both.load(13).input.tobytes() == sets.val.load(1).input.tobytes()
    assert both.labels == [*sets.train.labels, *sets.val.labels]


def test_weights_tell_their_model_and_refuse_another(run: RunResult) -> None:
    trained = load_any(run.folder)
    assert trained.classes == ("blue", "green", "red")
    assert not trained.model.training
    with pytest.raises(WeightsError, match="weights of custom, expected poolformer_s12"):
        load_any(run.folder, "poolformer_s12")
    with pytest.raises(WeightsError, match="poolformer_s12"):
        load_any("poolformer_s1")
    with pytest.raises(WeightsError, match="which weights"):
        load_any()


def test_a_file_of_others_needs_as_many_classes(tmp_path: Path) -> None:
    model = create_model("poolformer_s12", num_classes=7)
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    assert load_any(tmp_path / "theirs.pth", "poolformer_s12", num_classes=7).class_name(3) == "class 3"
    with pytest.raises(WeightsError, match="number of classes"):
        load_any(tmp_path / "theirs.pth", "poolformer_s12")


def test_imagenet_has_its_names() -> None:
    names = imagenet_classes(1000)
    assert names is not None
    assert names[207] == "golden retriever"
    assert imagenet_classes(17) is None
