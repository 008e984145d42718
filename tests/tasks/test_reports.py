"""A task's part of a report: one safe page whose numbers come from the evaluation."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import fabricated as fake
import pytest
import scenes as made
from pages import assert_self_contained, read, undrawn  # noqa: F401 a fixture
from PIL import Image
from test_evaluations import detected, segmented

from metaformer.evaluation import Evaluation
from metaformer.recipe import Recipe
from metaformer.render.annotate import class_color, hexadecimal
from metaformer.render.style import save_png
from metaformer.run.evaluate import write_report
from metaformer.run.evaluation_file import write_evaluation
from metaformer.run.report.files import read_run
from metaformer.run.report.page import write_run_page
from metaformer.tasks.class_table import OPEN_UP_TO
from metaformer.tasks.classification.plots import predictions_figure
from metaformer.tasks.detection.evaluation import DetectionEvaluation
from metaformer.tasks.detection.evaluation import Sample as DetectionSample
from metaformer.tasks.segmentation.evaluation import SegmentationEvaluation


def run_folder(folder: Path, evaluation: Evaluation, epochs: int = 3) -> Path:
    """What a run with this evaluation writes, its metrics a little better in each epoch."""
    detects = isinstance(evaluation, DetectionEvaluation)
    model = made.ColorDetector("mask_ap" in evaluation.metrics) if detects else made.ColorSegmenter()
    recipe = Recipe(task=evaluation.task).updated({"optimizer": {"epochs": epochs}})
    fake.write_config(folder, evaluation.classes, recipe=recipe, name="the model", spec=model.spec)
    names = [*evaluation.metrics, *(f"ema_{name}" for name in evaluation.metrics)]
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "update", "lr", "seconds", "samples_per_second", "train_loss", *names])
        writer.writeheader()
        for epoch in range(1, epochs + 1):
            row: dict[str, Any] = {name: value * epoch / epochs for name, value in evaluation.metrics.items()}
            row |= {"epoch": epoch, "update": 9 * epoch, "lr": 1e-3, "seconds": 5, "samples_per_second": 7}
            writer.writerow(row | {"train_loss": 3.25 / epoch})
    write_evaluation(folder, evaluation.with_changes(weights="best.safetensors"))
    return folder


@pytest.mark.parametrize("masks", [True, False])
def test_a_detectors_page_has_its_curves_tables_and_images(tmp_path: Path, masks: bool) -> None:
    evaluation = detected(masks)
    page = write_run_page(run_folder(tmp_path, evaluation))
    assert_self_contained(page)
    for name in ("curves.png", "precision_recall.png", "predictions.png"):
        with Image.open(tmp_path / name) as image:
            image.verify()
    text, primary = read(page).text, "mask_ap" if masks else "box_ap"
    label = primary.replace("_ap", " AP")
    for words in (
        f"Best validation {label} {100 * evaluation.metrics[primary]:.2f} % after epoch 3 of 3",
        f"Best {label}", f"Loss and {label} after each epoch", "Precision and recall", "red <disc>", "green & square",
        "Mask R-CNN" if masks else "RetinaNet", "short side 800, long side at most 1333 pixels",
        "2 of 2 found, 1 false positive", "1 of 1 found, 1 false positive", "Predictions beside the ground truth",
        "Box AP50", "Left: prediction, objects with a score of at least 30%; right: ground truth",
    ):  # fmt: skip
        assert words in text, words
    html = page.read_text()
    assert html.count('src="data:image/jpeg;base64,') == 2 * 5
    assert f"background:{hexadecimal(class_color(1))}" in html
    assert ("mask AP50" in text) == masks
    assert "Confusion matrix" not in text


def test_a_page_of_any_number_of_classified_images_is_drawn(tmp_path: Path) -> None:
    for images in (0, 1, 50):
        figure = predictions_figure(fake.evaluation(("a", "b"), images=images))
        with Image.open(save_png(figure, tmp_path / "predictions.png")) as image:
            image.verify()


def test_a_segmenters_page_has_its_classes_and_its_matrix(tmp_path: Path) -> None:
    evaluation = segmented()
    page = write_run_page(run_folder(tmp_path, evaluation))
    assert_self_contained(page)
    assert (tmp_path / "confusion.png").is_file()
    assert not (tmp_path / "precision_recall.png").exists()
    text = read(page).text
    for words in (
        f"Best validation mIoU {100 * evaluation.metrics['miou']:.2f} % after epoch 3 of 3", "Semantic FPN",
        "of the pixels correct", "Most confused pairs", "mean accuracy", "Validation loss",
        f"{100 * (evaluation.table[0].iou or 0):.1f} %",
    ):  # fmt: skip
        assert words in text, words
    order = [text.index(name) for name in ("ground", "red <disc>", "green & square")]
    assert order == sorted(order)  # the most frequent first


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("missing", ["config.json", "metrics.csv", "evaluation.json"])
@pytest.mark.parametrize("make", [detected, segmented], ids=lambda make: make.__name__)
def test_a_missing_file_is_named_and_the_rest_is_shown(tmp_path: Path, missing: str, make: Any) -> None:
    run_folder(tmp_path, make())
    (tmp_path / missing).unlink()
    text = read(write_run_page(tmp_path)).text
    assert missing in text
    assert "top-1" not in text
    assert ("Predictions beside the ground truth" in text) == (missing != "evaluation.json")


@pytest.mark.parametrize(("evaluation", "primary"), [
    (detected(), "mask_ap"), (detected(masks=False), "box_ap"), (segmented(), "miou")
], ids=["masks", "boxes", "pixels"])  # fmt: skip
@pytest.mark.parametrize("named", [True, False], ids=["named", "0.1.0"])
def test_the_primary_metric_decides(tmp_path: Path, evaluation: Evaluation, primary: str, named: bool) -> None:
    """config.json names it; in runs of 0.1.0 it follows from what was measured."""
    run_folder(tmp_path, evaluation)
    if named:
        config = read_run(tmp_path).config
        assert config is not None
        config.with_changes(primary=primary).write(tmp_path)
    run = read_run(tmp_path)
    assert run.best is not None
    assert (run.primary.name, run.best.epoch) == (primary, 3)
    assert run.best.value == pytest.approx(evaluation.metrics[primary])


@pytest.mark.usefixtures("undrawn")
def test_many_classes_are_folded_away(tmp_path: Path) -> None:
    evaluation, count = detected(), OPEN_UP_TO + 1
    many = evaluation.with_changes(
        classes=tuple(f"class {i}" for i in range(count)),
        table=tuple(evaluation.table[0].with_changes(label=i) for i in range(count)),
        curves=tuple(evaluation.curves[0].with_changes(label=i) for i in range(count)),
    )
    assert f"<summary>{count} classes" in write_run_page(run_folder(tmp_path, many)).read_text()


@pytest.mark.usefixtures("undrawn")
def test_samples_that_are_no_images_are_replaced_by_words(tmp_path: Path) -> None:
    odd = DetectionSample(name="<x>", labels=(9,), prediction='"><script>', objects=1, found=0, false_positives=2)
    page = write_run_page(run_folder(tmp_path, detected().with_changes(samples=(odd,))))
    assert_self_contained(page)
    text = read(page).text
    assert "no image" in text
    assert "0 of 1 found, 2 false positives" in text
    assert "class 9" in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("empty", [
    DetectionEvaluation(metrics={"box_ap": 0.5}, classes=("a",), images=1),
    SegmentationEvaluation(metrics={"miou": float("nan")}, classes=("a",), images=1),
], ids=["detection", "segmentation"])  # fmt: skip
def test_an_evaluation_without_parts_still_gives_a_page(tmp_path: Path, empty: Evaluation) -> None:
    """As those in results/ are, and those of the first versions."""
    assert_self_contained(write_run_page(run_folder(tmp_path, empty)))


@pytest.mark.parametrize("make", [detected, segmented], ids=lambda make: make.__name__)
def test_an_evaluation_alone_is_drawn_too(tmp_path: Path, make: Any) -> None:
    """As ``metaformer eval --out`` does it, where there is no run."""
    write_report(make(), tmp_path / "new" / "folder")
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    drawing = "precision_recall.png" if make is detected else "confusion.png"
    assert names == {"evaluation.json", "predictions.png", drawing}
