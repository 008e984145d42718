"""The page of a detector's or a segmenter's run: one safe file whose numbers come from the run's files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import fabricated as fake
import pytest
import scenes as made
from metaformer.tasks.dense.evaluate import DenseScore, score_detection, score_segmentation
from metaformer.tasks.dense.report import WHOLE_TABLE
from pages import read, undrawn  # noqa: F401 a fixture
from PIL import Image

from metaformer.errors import RunError
from metaformer.recipe import Recipe
from metaformer.render.annotate import class_color, hexadecimal
from metaformer.render.page import evaluation_parts
from metaformer.run.report.files import read_evaluation, read_metrics, read_run
from metaformer.run.report.page import write_run_page


def detected(masks: bool = True) -> DenseScore:
    images = made.ObjectScenes()
    return score_detection(made.ColorDetector(masks), images, made.CLASSES, made.Loader(images, made.pixels))


def segmented() -> DenseScore:
    images = made.LabeledScenes()
    loader = made.Loader(images, lambda image: made.pixels(image) - 0.5)
    return score_segmentation(made.ColorSegmenter(), images, made.CLASSES, loader)


def run_folder(folder: Path, score: DenseScore, epochs: int = 3) -> Path:
    """What a run of this outcome writes, its figures a little better in each epoch."""
    detects = score.task == "detection"
    model = made.ColorDetector("mask_ap" in score.figures) if detects else made.ColorSegmenter()
    recipe = Recipe(task=score.task).to_dict()
    recipe["optimizer"] |= {"epochs": epochs}
    (folder / "config.json").write_text(
        json.dumps(fake.config(score.classes, recipe=recipe, name="the model", spec=model.spec.to_dict()))
    )
    names = [*score.figures, *(f"ema_{name}" for name in score.figures)]
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "update", "lr", "seconds", "images_per_second", "train_loss", *names])
        writer.writeheader()
        for epoch in range(1, epochs + 1):
            row: dict[str, Any] = {name: value * epoch / epochs for name, value in score.figures.items()}
            row |= {"epoch": epoch, "update": 9 * epoch, "lr": 1e-3, "seconds": 5, "images_per_second": 7}
            writer.writerow(row | {"train_loss": 3.25 / epoch})
    score.write(folder / "evaluation.json", weights="best.safetensors")
    return folder


def assert_safe(page: Path) -> None:
    seen = read(page)
    own = ("data:image/jpeg;base64,", "data:image/png;base64,", "#")  # a matrix of pixels is a PNG in its drawing
    assert all(source.startswith(own) for source in seen.fetched)
    assert not seen.tags & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"\b(nan|None|undefined)\b", seen.text)


@pytest.mark.parametrize("masks", [True, False])
def test_a_detectors_page_has_its_curves_tables_and_images(tmp_path: Path, masks: bool) -> None:
    score = detected(masks)
    page = write_run_page(run_folder(tmp_path, score))
    assert_safe(page)
    for name in ("curves.png", "precision_recall.png", "predictions.png"):
        with Image.open(tmp_path / name) as image:
            image.verify()
    text, judged = read(page).text, "mask_ap" if masks else "box_ap"
    word = judged.replace("_ap", " AP")
    for said in (
        f"Best validation {word} {score.figures[judged]:.2%} after epoch 3 of 3".replace("%", " %"),
        f"Best {word}", f"Loss and {word} after each epoch", "Precision and recall", "red <disc>", "green & square",
        "Mask R-CNN" if masks else "RetinaNet", "short side 800, long side at most 1333 pixels",
        "2 of 2 found, 1 more", "1 of 1 found, 1 more", "Predictions beside the truth", f"Box AP50{''}",
    ):  # fmt: skip
        assert said in text, said
    html = page.read_text()
    assert html.count('src="data:image/jpeg;base64,') == 2 * 5
    assert f"background:{hexadecimal(class_color(1))}" in html
    assert ("mask AP50" in text) == masks
    assert "Confusion matrix" not in text


def test_a_segmenters_page_has_its_classes_and_its_matrix(tmp_path: Path) -> None:
    score = segmented()
    page = write_run_page(run_folder(tmp_path, score))
    assert_safe(page)
    assert (tmp_path / "confusion.png").is_file()
    assert not (tmp_path / "precision_recall.png").exists()
    text = read(page).text
    for said in (
        f"Best validation mIoU {100 * score.figures['miou']:.2f} % after epoch 3 of 3", "Semantic FPN",
        "of the pixels right", "Where most pixels were mistaken", "mean accuracy", "Validation loss",
    ):  # fmt: skip
        assert said in text, said
    rows = {row["label"]: row for row in score.table}
    assert f"{100 * rows[0]['iou']:.1f} %" in text
    order = [text.index(name) for name in ("nothing", "red <disc>", "green & square")]
    assert order == sorted(order)  # the most frequent first


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("missing", ["config.json", "metrics.csv", "evaluation.json"])
def test_a_missing_file_is_said_and_the_rest_is_shown(tmp_path: Path, missing: str) -> None:
    run_folder(tmp_path, detected())
    (tmp_path / missing).unlink()
    page = write_run_page(tmp_path)
    text = read(page).text
    assert missing in text
    assert "top-1" not in text.replace("Recipe", "")
    assert ("Predictions beside the truth" in text) == (missing != "evaluation.json")


@pytest.mark.usefixtures("undrawn")
def test_many_classes_are_folded_away(tmp_path: Path) -> None:
    score = detected()
    run_folder(tmp_path, score)
    data = score.to_dict()
    count = WHOLE_TABLE + 1
    data["classes"] = [f"class {i}" for i in range(count)]
    data["table"] = [data["table"][0] | {"label": i} for i in range(count)]
    data["curves"] = [data["curves"][0] | {"label": i} for i in range(count)]
    (tmp_path / "evaluation.json").write_text(json.dumps(data))
    assert f"<summary>{count} classes" in write_run_page(tmp_path).read_text()


def test_the_deciding_figure_is_the_tasks(tmp_path: Path) -> None:
    for score, judged in ((detected(), "mask_ap"), (detected(masks=False), "box_ap"), (segmented(), "miou")):
        run_folder(tmp_path, score)
        best = read_metrics(tmp_path / "metrics.csv").best
        assert best is not None
        assert (best.figure, best.epoch) == (judged, 3)
        assert best.share == pytest.approx(score.figures[judged])


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path) -> None:
    score = segmented()
    score.write(tmp_path / "evaluation.json")
    evaluation = read_evaluation(tmp_path)
    assert evaluation is not None
    assert evaluation.dense is not None
    assert evaluation.figures == pytest.approx(dict(score.figures))
    assert evaluation.confusion.tolist() == score.confusion
    assert [row["iou"] for row in evaluation.dense.table] == [row["iou"] for row in score.table]
    assert evaluation.images == 5


def test_the_parts_of_an_evaluation_alone_are_written_too(tmp_path: Path) -> None:
    """As ``metaformer eval --out`` does it, where there is no run."""
    detected().write(tmp_path / "evaluation.json")
    evaluation_parts(read_evaluation(tmp_path), tmp_path)
    assert (tmp_path / "precision_recall.png").is_file()
    assert (tmp_path / "predictions.png").is_file()


@pytest.mark.usefixtures("undrawn")
def test_odd_samples_and_a_damaged_table_are_said(tmp_path: Path) -> None:
    data = detected().to_dict()
    run_folder(tmp_path, detected())
    data["samples"] = [{"name": "x", "labels": [9], "prediction": '"><script>', "truth": ""}]
    (tmp_path / "evaluation.json").write_text(json.dumps(data))
    page = write_run_page(tmp_path)
    assert_safe(page)
    assert "no image" in read(page).text
    (tmp_path / "evaluation.json").write_text(json.dumps(data | {"table": [{"objects": 3}]}))
    with pytest.raises(RunError, match=r"evaluation\.json: not an evaluation"):
        read_run(tmp_path)
