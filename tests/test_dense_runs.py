"""Runs of the three systems from end to end on drawn shapes: what a run writes, that its metrics are right, that it
resumes exactly after any end, that several processes agree with one, and that the commands take it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_run import QUIET, SYSTEMS, narrow, quick, recipe_for
from drawn_sets import CATEGORIES, LABELS, ade20k_folder, coco_folder
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from same_run import expect_same_run, metrics_rows

from metaformer.cli.app import main
from metaformer.data.loading.loader import BadImageWarning
from metaformer.errors import DataError
from metaformer.inference.loaded import load_any
from metaformer.model.dense.retinanet import Head
from metaformer.recipe import DataConfig, Recipe
from metaformer.render.numbers import percent
from metaformer.run.config import RunConfig
from metaformer.run.evaluate import evaluate
from metaformer.run.folder import RUN_FOLDER
from metaformer.run.train import RunResult
from metaformer.spec.dense import DenseSpec
from metaformer.training.averaging import AveragedWeights
from metaformer.training.engine import Engine
from metaformer.weights.safetensors_io import read_tensors

SCRIPT = Path(__file__).with_name("dense_run.py")
PRIMARY = {"retinanet": "box_ap", "mask_rcnn": "mask_ap", "semantic_fpn": "miou"}
FINDS_OBJECTS = ("retinanet", "mask_rcnn")

not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL and no gloo")
every_system = pytest.mark.parametrize("system", SYSTEMS)


def drawn_set(root: Path, system: str, train: int = 16) -> Path:
    """Boxes alone for RetinaNet, boxes with masks for Mask R-CNN, label maps for Semantic FPN."""
    if system == "semantic_fpn":
        return ade20k_folder(root, train)
    return coco_folder(root, train, masks=system == "mask_rcnn")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sets")
    return {system: drawn_set(root / system, system) for system in SYSTEMS}


@pytest.fixture(scope="module")
def run_of(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunResult]:
    """The finished run of a system, which tests only look at."""
    root, runs = tmp_path_factory.mktemp("runs"), {}

    def finished(system: str) -> RunResult:
        if system not in runs:
            runs[system] = finished_run(recipe_for(system, folders[system]), root / system, page=True)
        return runs[system]

    return finished


@pytest.fixture(autouse=True)
def _small_heads() -> Any:
    """Trained weights are opened as they were built."""
    with narrow():
        yield


def finished_run(recipe: Recipe | None, folder: Path, **more: Any) -> RunResult:
    result = quick(recipe, folder, **more)
    assert result is not None
    return result


def evaluation(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text())


# ---- what a run writes ---------------------------------------------------------------------------------------------


@every_system
def test_a_run_folder_is_complete(system: str, run_of: Callable[[str], RunResult], folders: dict[str, Path]) -> None:
    run = run_of(system)
    names = {path.name for path in run.folder.iterdir()}
    drawings = {"curves.png", "predictions.png"}
    drawings.add("precision_recall.png" if system in FINDS_OBJECTS else "confusion.png")
    assert names >= {"config.json", "metrics.csv", "evaluation.json", "report.html", *drawings}
    assert all(RUN_FOLDER.is_written(name) for name in names)

    config, model = RunConfig.read(run.folder), load_any(run.folder).model
    assert config.recipe == recipe_for(system, folders[system])
    assert config.classes == (LABELS if system == "semantic_fpn" else tuple(one["name"] for one in CATEGORIES))
    assert (config.data.source, config.data.train, config.data.val) == (str(folders[system]), 16, 4)
    assert (config.spec, config.primary) == (model.spec, PRIMARY[system])
    assert isinstance(config.spec, DenseSpec)
    assert config.spec.system == system
    assert config.parameters == run.parameters == sum(p.numel() for p in model.parameters())


@every_system
def test_metrics_and_evaluation_agree(system: str, run_of: Callable[[str], RunResult]) -> None:
    """The evaluation is that of the best epoch, by the trained or by the averaged weights."""
    run = run_of(system)
    rows, written = metrics_rows(run.folder), evaluation(run.folder)
    assert [int(row["update"]) for row in rows] == [4, 8, 12, 16]
    primary = PRIMARY[system]
    assert run.primary.name == primary
    reached = {(row["epoch"], name): float(row[name]) for row in rows for name in (primary, f"ema_{primary}")}
    assert run.best == pytest.approx(max(reached.values()), rel=1e-5)
    epoch = rows[run.best_epoch - 1]
    averaged = "ema_" if float(epoch[f"ema_{primary}"]) > float(epoch[primary]) else ""
    assert dict(written["metrics"]) == dict(run.metrics)
    for name, value in run.metrics.items():
        assert value == pytest.approx(float(epoch[averaged + name]), rel=1e-5), name
    assert run.metrics[primary] > 0, "a run that finds no object tests little"
    assert (written["images"], written["weights"]) == (4, "best.safetensors")
    assert len(written["samples"]) == 4


@every_system
def test_the_losses_fall(system: str, run_of: Callable[[str], RunResult]) -> None:
    rows = metrics_rows(run_of(system).folder)
    assert float(rows[-1]["train_loss"]) < 0.85 * float(rows[0]["train_loss"])


@every_system
def test_the_report_shows_the_run(system: str, run_of: Callable[[str], RunResult]) -> None:
    run = run_of(system)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert percent(run.best) in page
    for name in evaluation(run.folder)["classes"]:
        assert name in page
    assert page.count("data:image/") >= 3  # curves, table of classes or precision over recall, images


# ---- its metrics are right -----------------------------------------------------------------------------------------


@every_system
def test_a_fresh_evaluation_gives_the_metrics_of_the_run(system: str, run_of: Callable[[str], RunResult]) -> None:
    run = run_of(system)
    again = evaluate(run.folder, batch_size=3, console=QUIET)
    assert dict(again.metrics) == pytest.approx(dict(run.metrics), rel=1e-4)
    assert again.images == 4


@every_system
def test_training_images_and_all_of_them_can_be_evaluated(system: str, run_of: Callable[[str], RunResult]) -> None:
    run = run_of(system)
    assert evaluate(run.folder, part="train", console=QUIET).images == 16
    everything = evaluate(run.folder, part="all", console=QUIET)
    assert everything.images == 20
    assert 0 <= everything.metrics[PRIMARY[system]] <= 1
    assert {Path(one.name).stem >= "100" for one in everything.samples} == {True, False}


@pytest.mark.parametrize(("system", "kind"), [("retinanet", "bbox"), ("mask_rcnn", "bbox"), ("mask_rcnn", "segm")])
def test_predicted_objects_have_the_precision_of_the_run(
    system: str, kind: str, run_of: Callable[[str], RunResult], folders: dict[str, Path], tmp_path: Path
) -> None:
    """The results of ``predict`` in the hands of COCO's own evaluation."""
    images = folders[system] / "images" / "val"
    run = run_of(system)
    command = ["predict", str(images), "--weights", str(run.folder), "--out", str(tmp_path), "--score", "0"]
    assert main(command) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    numbers = [category["id"] for category in CATEGORIES]
    for entry in results:
        assert entry["file_name"] == f"{entry['image_id']:03}.png"
        entry["category_id"] = numbers[entry["category_id"] - 1]  # weights know the order of classes, not the ids
    with redirect_stdout(StringIO()):
        truth = COCO(str(folders[system] / "annotations" / "instances_val.json"))
        judged = COCOeval(truth, truth.loadRes(results), kind)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    prefix = "box" if kind == "bbox" else "mask"
    ours = [run.metrics[f"{prefix}_{name}"] for name in ("ap", "ap50", "ap75", "ap_small")]
    assert ours == pytest.approx(list(judged.stats[:4]), abs=1e-4)


def test_predicted_label_maps_have_the_overlap_of_the_run(
    run_of: Callable[[str], RunResult], folders: dict[str, Path], tmp_path: Path
) -> None:
    run, root = run_of("semantic_fpn"), folders["semantic_fpn"]
    assert main(["predict", str(root / "images/validation"), "--weights", str(run.folder), "--out", str(tmp_path)]) == 0
    seen, true = [], []
    for path in sorted((root / "annotations" / "validation").iterdir()):
        true.append(np.asarray(Image.open(path)).astype(int))
        seen.append(np.asarray(Image.open(tmp_path / f"{path.stem}.labels.png")).astype(int) + 1)
    predictions, truth = np.stack(seen)[np.stack(true) > 0], np.stack(true)[np.stack(true) > 0]
    overlaps = [
        ((predictions == label) & (truth == label)).sum() / ((predictions == label) | (truth == label)).sum()
        for label in (1, 2, 3)
    ]
    assert run.metrics["miou"] == pytest.approx(np.mean(overlaps), abs=1e-4)
    assert run.metrics["pixel_accuracy"] == pytest.approx((predictions == truth).mean(), abs=1e-4)


# ---- resuming exactly ----------------------------------------------------------------------------------------------


def expect_same_evaluated_run(one: Path, two: Path) -> None:
    expect_same_run(one, two, epochs=4)
    assert evaluation(one)["metrics"] == evaluation(two)["metrics"]


class Killed(BaseException):
    """Stands for a kill: no handler of errors catches it."""


# in the middle of an epoch, and in the first update of one
@pytest.mark.parametrize(("system", "update"), [("mask_rcnn", 10), ("semantic_fpn", 4)])
def test_a_broken_run_resumes_exactly(
    system: str, update: int, run_of: Callable[[str], RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    folders: dict[str, Path],
) -> None:  # fmt: skip
    whole = Engine.gradients

    def breaking(engine: Engine, window: Any, number: int) -> Any:
        if number == update:
            raise Killed
        return whole(engine, window, number)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "gradients", breaking)
        with pytest.raises(Killed):
            quick(recipe_for(system, folders[system]), tmp_path / "run")
    assert len(metrics_rows(tmp_path / "run")) == update // 4
    finished_run(None, tmp_path / "run", resume=True)
    expect_same_evaluated_run(run_of(system).folder, tmp_path / "run")


@not_on_windows
def test_kill_9_in_the_middle_changes_nothing(
    run_of: Callable[[str], RunResult], folders: dict[str, Path], tmp_path: Path
) -> None:
    """In the second part of update 11, the second after a saved state: that and the next are lost and done again."""
    words = ["waiting", "retinanet", str(folders["retinanet"]), str(tmp_path / "run"), "22"]
    process = subprocess.Popen([sys.executable, str(SCRIPT), *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(metrics_rows(tmp_path / "run")) == 2
    finished_run(None, tmp_path / "run", resume=True)
    expect_same_evaluated_run(run_of("retinanet").folder, tmp_path / "run")


# ---- several processes ---------------------------------------------------------------------------------------------


def together(*words: object) -> list[str]:
    """What two processes print that share the work of a command of the script."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), *map(str, words)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return printed


@not_on_windows
def test_two_processes_evaluate_as_one(run_of: Callable[[str], RunResult]) -> None:
    runs = [run_of(system) for system in SYSTEMS]
    for printed in together("evaluated", *(run.folder for run in runs)):
        for run, metrics in zip(runs, json.loads(printed.splitlines()[-1]), strict=True):
            assert metrics == pytest.approx(dict(run.metrics), rel=1e-5)


@not_on_windows
@pytest.mark.slow
@pytest.mark.parametrize("system", ["mask_rcnn", "semantic_fpn"])
def test_two_processes_train_together(system: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """The metrics of the last epoch, by both, are those that the main process measures alone in the end."""
    together("trained", system, folders[system], tmp_path / "run")
    (row,), written = metrics_rows(tmp_path / "run"), evaluation(tmp_path / "run")
    assert int(row["update"]) == 4
    assert 0 < float(row["train_loss"]) < 6
    for name, value in written["metrics"].items():
        assert float(row[name]) == pytest.approx(value, rel=1e-5), name


# ---- how the weights move ------------------------------------------------------------------------------------------


def test_a_batch_in_parts_moves_a_detector_as_a_whole_one_does(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RetinaNet's losses are divided by the anchors that a batch matches, as published, and so depend on how it is
    divided; divided by its images, which this test makes them, the parts add up."""
    published = Head.compute_loss

    def by_images(head: Head, targets: Any, outputs: Any, anchors: Any, matched: list[torch.Tensor]) -> Any:
        count = sum(max(int((one >= 0).sum()), 1) for one in matched)
        losses = published(head, targets, outputs, anchors, matched)
        return {name: loss * count / len(targets) / 10 for name, loss in losses.items()}

    monkeypatch.setattr(Head, "compute_loss", by_images)
    weights = []
    for parts in (1, 4):
        moves = {"epochs": 1, "batch_size": 8, "accumulation": parts, "name": "sgd", "lr": 1e-2}
        run = finished_run(recipe_for("retinanet", folders["retinanet"], **moves), tmp_path / str(parts))
        assert int(metrics_rows(run.folder)[0]["update"]) == 2
        weights.append(read_tensors(run.folder / "last.safetensors")[0])
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-6)


def test_averaged_weights_are_the_best_where_the_trained_ones_leave_their_way(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained weights whose classifier is turned round after each update name the wrong classes; the average of the
    ways before does not follow them. What is evaluated and written is the average."""
    recipe = recipe_for("semantic_fpn", folders["semantic_fpn"], epochs=1, ema_decay=0.9)
    averaging, judged = AveragedWeights.update, []

    def misled(average: AveragedWeights, module: Any, update: int) -> None:
        averaging(average, module, update)
        judged.append(module)
        if update == 4:
            with torch.no_grad():
                module.head.classify.bias[0] += 100  # everything is a disc

    monkeypatch.setattr(AveragedWeights, "update", misled)
    run = finished_run(recipe, tmp_path / "run")
    (row,) = metrics_rows(run.folder)
    assert len(judged) == 4
    assert json.loads(read_tensors(run.folder / "best.safetensors")[1]["averaged"]) is True
    assert run.metrics["miou"] == pytest.approx(float(row["ema_miou"]), rel=1e-5)
    assert float(row["miou"]) < float(row["ema_miou"])


# ---- images that are none ----------------------------------------------------------------------------------------


def broken(root: Path, system: str) -> Path:
    """A set whose training image 5 is truncated in the middle; gives that file."""
    drawn_set(root, system, train=8)
    part = "training" if system == "semantic_fpn" else "train"
    path = root / "images" / part / "005.png"
    path.write_bytes(path.read_bytes()[:2000])
    return path


@every_system
@pytest.mark.parametrize("verify", ["full", "none"])  # found before training, or when its turn comes
def test_a_broken_image_is_refused_by_its_name(system: str, verify: str, tmp_path: Path) -> None:
    path = broken(tmp_path / "set", system)
    recipe = recipe_for(system, tmp_path / "set", epochs=1)
    recipe = recipe.with_changes(data=recipe.data.with_changes(verify=verify))
    with pytest.raises(DataError, match=r"(?s)005\.png.*--data\.on-bad-image skip") as refused:
        quick(recipe, tmp_path / "run")
    assert str(path) in str(refused.value)
    assert (tmp_path / "run").exists() == (verify == "none")


@every_system
@pytest.mark.parametrize("verify", ["full", "none"])
def test_a_broken_image_can_be_left_out(system: str, verify: str, tmp_path: Path) -> None:
    path = broken(tmp_path / "set", system)
    recipe = recipe_for(system, tmp_path / "set", epochs=1)
    recipe = recipe.with_changes(data=recipe.data.with_changes(verify=verify, on_bad_image="skip"))
    with pytest.warns(BadImageWarning, match=r"005\.png") if verify == "none" else nullcontext():
        finished_run(recipe, tmp_path / "run")
    data = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert [bad["path"] for bad in data["skipped"]] == ([str(path)] if verify == "full" else [])
    assert data["train"] == (7 if verify == "full" else 8)
    assert int(metrics_rows(tmp_path / "run")[0]["update"]) == 2


# ---- the commands --------------------------------------------------------------------------------------------------


def run_command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, standard output, standard error without line breaks."""
    capsys.readouterr()
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, " ".join(captured.err.split())


@every_system
def test_eval_prints_the_metrics_of_the_run(
    system: str, run_of: Callable[[str], RunResult], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = run_of(system)
    status, out, _ = run_command(capsys, "eval", run.folder, "--json", "--out", tmp_path / "out")
    assert status == 0
    assert json.loads(out)["metrics"] == pytest.approx(dict(run.metrics), rel=1e-4)
    assert {"evaluation.json", "predictions.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    if system == "semantic_fpn":
        status, out, _ = run_command(capsys, "eval", run.folder)
        assert status == 0
        assert percent(run.metrics[PRIMARY[system]]) in out


@pytest.mark.parametrize("system", FINDS_OBJECTS)
def test_predict_draws_objects(
    system: str,
    run_of: Callable[[str], RunResult],
    folders: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    image, out = folders[system] / "images" / "val" / "101.png", tmp_path / "drawn"
    words = ("predict", "--weights", run_of(system).folder, image, "--out", out, "--score", "0.06")
    status, text, _ = run_command(capsys, *words, "--json")
    assert status == 0
    (result,) = json.loads(text)
    assert result["objects"], "no object to draw"
    results = json.loads((out / "results.json").read_text())
    assert [entry["score"] for entry in results] == pytest.approx([o["score"] for o in result["objects"]], abs=1e-5)
    assert all(("segmentation" in entry) == (system == "mask_rcnn") for entry in results)
    with Image.open(out / "101.png") as drawing, Image.open(image) as plain:
        assert drawing.size == plain.size
        assert drawing.convert("RGB").tobytes() != plain.convert("RGB").tobytes()
    status, text, _ = run_command(capsys, *words)
    assert status == 0
    assert result["objects"][0]["class"] in text


def test_predict_draws_label_maps(
    run_of: Callable[[str], RunResult],
    folders: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    image = folders["semantic_fpn"] / "images" / "validation" / "100.png"
    words = ("predict", "--weights", run_of("semantic_fpn").folder, image, "--out", tmp_path / "drawn")
    status, text, _ = run_command(capsys, *words, "--json")
    assert status == 0
    (result,) = json.loads(text)
    assert sum(one["share"] for one in result["classes"]) == pytest.approx(1, abs=1e-5)
    with Image.open(tmp_path / "drawn" / "100.labels.png") as labels, Image.open(image) as plain:
        assert labels.size == plain.size
        assert labels.mode == "P"
        seen = set(np.unique(np.asarray(labels)).tolist())
    assert seen == {one["index"] for one in result["classes"]} <= set(range(len(LABELS)))
    assert (tmp_path / "drawn" / "100.png").is_file()


@pytest.mark.parametrize("system", ["retinanet", "semantic_fpn"])
def test_other_classes_are_refused(system: str, run_of: Callable[[str], RunResult], tmp_path: Path) -> None:
    other = drawn_set(tmp_path / "other", system, train=2)
    if system == "semantic_fpn":
        (other / "classes.tsv").write_text("label\tname\n1\tdisc\n2\tbox\n3\tground\n")
    else:
        for file in (other / "annotations").iterdir():
            file.write_text(file.read_text().replace('"square"', '"box"'))
    with pytest.raises(DataError, match="square only in the model, box only in the dataset"):
        evaluate(run_of(system).folder, DataConfig(source=str(other)), console=QUIET)


@pytest.mark.parametrize("task", ["detection", pytest.param("segmentation", marks=pytest.mark.slow)])
def test_train_and_resume_from_the_command_line(
    task: str, folders: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A shipped recipe; the system follows from the data, boxes without masks."""
    system = {"detection": "retinanet", "segmentation": "semantic_fpn"}[task]
    few = ["--epochs", "1", "--dense.short-side", "64", "--dense.long-side", "128"]
    words = [
        "train",
        "--recipe",
        task,
        "--model",
        "poolformer_s12",
        "--data",
        folders[system],
        "--out",
        tmp_path / "run",
    ]
    crop = ["--dense.crop", "64"] if task == "segmentation" else []
    status, out, _ = run_command(capsys, *words, *few, *crop)
    assert status == 0
    assert percent(evaluation(tmp_path / "run")["metrics"][PRIMARY[system]]) in out
    assert load_any(tmp_path / "run").model.name == f"{system}_poolformer_s12"
    status, out, _ = run_command(capsys, "train", "--resume", "--out", tmp_path / "run")
    assert status == 0
    assert "already finished" in out
