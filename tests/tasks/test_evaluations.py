"""What an evaluation has: metrics, a row for each class, samples that can be opened. What its file gives back."""

from __future__ import annotations

import base64
import io
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import fabricated as fake
import numpy as np
import pytest
import scenes as made
import torch
from PIL import Image

from metaformer.data.dataset import Sample
from metaformer.data.decode import UnreadableImage
from metaformer.errors import RunError
from metaformer.evaluation import Evaluation
from metaformer.run.evaluation_file import read_evaluation, write_evaluation
from metaformer.tasks.classification.evaluation import ClassificationEvaluation
from metaformer.tasks.detection.evaluate import matches
from metaformer.tasks.detection.evaluation import DetectionEvaluation
from metaformer.tasks.segmentation.evaluation import SegmentationEvaluation
from metaformer.tasks.segmentation.predict import label_map
from metaformer.tasks.side_by_side import SAMPLES, SIDE
from metaformer.tasks.task import EvaluationOptions, task_named

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = ROOT / "tests" / "version_0_1_0"
PINS = json.loads((WRITTEN / "pins.json").read_text())
OPTIONS = EvaluationOptions(batch_size=2)


@cache
def detected(masks: bool = True) -> DetectionEvaluation:
    detection = task_named("detection")
    found = detection.evaluate(made.ColorDetector(masks), made.ObjectScenes(), made.CLASSES, OPTIONS)
    assert isinstance(found, DetectionEvaluation)
    return found


@cache
def segmented() -> SegmentationEvaluation:
    segmentation = task_named("segmentation")
    found = segmentation.evaluate(made.ColorSegmenter(), made.LabeledScenes(), made.CLASSES, OPTIONS)
    assert isinstance(found, SegmentationEvaluation)
    return found


def classified() -> ClassificationEvaluation:
    return fake.evaluation(("cat", "dog"))


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


@pytest.mark.parametrize("masks", [True, False])
def test_a_detector_has_a_row_a_class_and_curves_that_belong_to_its_metrics(masks: bool) -> None:
    found = detected(masks)
    assert ("mask_ap" in found.metrics) == masks
    assert [(row.label, row.objects) for row in found.table] == [(0, 5), (1, 3)]
    assert np.mean([row.box_ap for row in found.table]) == pytest.approx(found.metrics["box_ap"])
    assert all((row.mask_ap is not None) == masks for row in found.table)
    kinds = ("box", "mask") if masks else ("box",)
    assert [(curve.kind, curve.label) for curve in found.curves] == [
        (k, label) for k in kinds for label in (None, 0, 1)
    ]
    mean = found.curves[0]
    assert len(mean.iou50) == len(mean.mean) == 101
    assert np.mean(mean.iou50) == pytest.approx(found.metrics["box_ap50"], abs=1e-4)
    assert np.mean(mean.mean) == pytest.approx(found.metrics["box_ap"], abs=1e-4)


def test_samples_of_a_detector_count_what_was_found_and_false_positives() -> None:
    found, scenes = detected(), made.ObjectScenes()
    assert found.images == 5
    assert [sample.name for sample in found.samples] == [f"scenes/{i}.jpg" for i in range(5)]
    for index, sample in enumerate(found.samples):
        count = len(scenes.boxes(index))
        assert (sample.objects, sample.found, sample.false_positives) == (count, count, 1)
        assert sample.labels == tuple(range(count))
        assert sample.words == f"{count} of {count} found, 1 false positive"
        assert opened(sample.prediction).size == opened(sample.ground_truth).size == (made.WIDTH, made.HEIGHT)
        assert sample.prediction != sample.ground_truth


def test_a_segmenter_has_the_matrix_and_the_classes_that_occur() -> None:
    found = segmented()
    assert np.array(found.confusion).sum() == 5 * (made.HEIGHT - 4) * made.WIDTH
    assert [row.label for row in found.table] == [0, 1, 2]
    assert found.table[1].iou == 0.0  # all of it is in the half that the model does not see
    assert np.mean([row.iou for row in found.table]) == pytest.approx(found.metrics["miou"])
    assert found.images == 5
    accuracies = [sample.pixel_accuracy for sample in found.samples]
    assert np.mean(accuracies) == pytest.approx(found.metrics["pixel_accuracy"], abs=1e-6)
    assert all(opened(sample.ground_truth).format == "JPEG" for sample in found.samples)


def test_few_of_many_images_are_kept_always_the_same_and_small() -> None:
    class Large(made.LabeledScenes):
        def load(self, index: int) -> Sample[torch.Tensor]:
            if index == 3:
                raise UnreadableImage(self.name(index), "truncated")
            image, labels = super().load(index)
            return Sample(image.resize((512, 384)), labels.repeat_interleave(8, 0).repeat_interleave(8, 1))

    def samples() -> list[Any]:
        scenes = Large(count=SAMPLES + 1, skips_bad=True)
        with pytest.warns(UserWarning, match="left out"):
            return list(segmentation.evaluate(made.ColorSegmenter(), scenes, made.CLASSES, OPTIONS).samples)  # type: ignore[attr-defined]

    segmentation = task_named("segmentation")
    first, again = samples(), samples()
    assert SAMPLES - 1 <= len(first) <= SAMPLES
    assert "scenes/3.jpg" not in {sample.name for sample in first}
    assert {max(opened(sample.prediction).size) for sample in first} == {SIDE}
    assert first == again


def test_a_label_map_has_the_images_own_size_and_the_model_keeps_its_mode() -> None:
    model = made.ColorSegmenter().train()
    image, labels = made.LabeledScenes().load(1)
    found = label_map(model, image)
    assert found.shape == (made.HEIGHT, made.WIDTH)
    assert (labels.numpy()[:40, :28] == found[:40, :28]).mean() > 0.95
    assert model.training


def test_an_object_is_found_once_and_only_as_its_class() -> None:
    truth = {"boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]]), "labels": torch.tensor([0, 1])}
    boxes = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 40, 40], [20, 20, 40, 29]], dtype=float)
    assert matches(boxes[:2], [0, 0], truth) == 1
    assert matches(boxes[2:3], [0], truth) == 0
    assert matches(boxes, [0, 0, 1, 1], truth) == 2
    assert matches(boxes[3:], [1], truth) == 0  # at an overlap below one half
    assert matches(np.zeros((0, 4)), [], truth) == 0


# ---- files -----------------------------------------------------------------------------------------------------------


def as_read(evaluation: Evaluation) -> Evaluation:
    return task_named(evaluation.task).read_evaluation(json.loads(json.dumps(evaluation.to_dict())))


@pytest.mark.parametrize("make", [classified, detected, segmented], ids=lambda make: make.__name__)
def test_an_evaluation_is_read_as_it_was_written(make: Any, tmp_path: Path) -> None:
    evaluation = make().with_changes(weights="best.safetensors")
    assert as_read(evaluation) == evaluation
    assert type(evaluation).from_dict(evaluation.to_dict()) == evaluation
    write_evaluation(tmp_path, evaluation)
    assert read_evaluation(tmp_path) == evaluation
    parts = [*evaluation.samples, *getattr(evaluation, "table", ()), *getattr(evaluation, "curves", ())]
    assert parts
    assert all(type(part).from_dict(part.to_dict()) == part for part in parts)


def test_a_metric_that_is_not_a_number_is_kept(tmp_path: Path) -> None:
    write_evaluation(tmp_path, classified().with_changes(metrics={"loss": float("nan"), "top1": 0.1}))
    assert np.isnan(read_evaluation(tmp_path).metrics["loss"])  # type: ignore[union-attr]


def test_a_folder_without_an_evaluation_has_none(tmp_path: Path) -> None:
    assert read_evaluation(tmp_path) is None


@pytest.mark.parametrize("name", PINS)
def test_evaluations_of_0_1_0_are_read(name: str) -> None:
    """Its classifiers did not name their task, its detectors and segmenters wrote each other's fields."""
    evaluation = read_evaluation(WRITTEN / "runs" / name)
    assert evaluation is not None
    assert evaluation.metrics == PINS[name]["figures"]
    expected = {"digits": "classification", "photos": "classification", "semantic_fpn": "segmentation"}
    assert evaluation.task == expected.get(name, "detection")
    assert evaluation.images == {"digits": 359, "photos": 6}.get(name, 4)
    assert evaluation.weights == "best.safetensors"
    assert evaluation.samples
    for sample in evaluation.samples:
        assert opened(sample.thumbnail if evaluation.task == "classification" else sample.ground_truth).width > 0
    assert as_read(evaluation) == evaluation


@pytest.mark.parametrize("folder", sorted(path.parent for path in (WRITTEN / "sweep").rglob("evaluation.json")))
def test_evaluations_of_a_sweep_of_0_1_0_are_read(folder: Path) -> None:
    evaluation = read_evaluation(folder)
    assert isinstance(evaluation, ClassificationEvaluation)
    assert evaluation.images == evaluation.matrix.sum() == 359
    assert evaluation.metrics["top1"] == pytest.approx(np.trace(evaluation.matrix) / 359)
    assert len(evaluation.samples) == 24


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*/*evaluation.json")), ids=lambda path: path.stem)
def test_published_evaluations_are_read(path: Path) -> None:
    """They have neither curves nor samples."""
    data = json.loads(path.read_text())
    evaluation = task_named(data["task"]).read_evaluation(data)
    assert evaluation.metrics == (data.get("metrics") or data["figures"])
    rows = evaluation.table  # type: ignore[attr-defined]
    mean = np.mean([row.box_ap if evaluation.task == "detection" else row.iou for row in rows])
    primary = task_named(data["task"]).primary(evaluation.metrics)
    assert evaluation.metrics[primary.name] == pytest.approx(mean)
    assert as_read(evaluation) == evaluation


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (classified, {"confusion": [[1, 2, 3]]}, r"confusion: expected 2 × 2 integers, got 1 × 3 values"),
        (classified, {"confusion": 7}, r"confusion: expected"),
        (classified, {"confusion": [1, 2]}, r"confusion: expected"),
        (classified, {"confusion": [["a", "b"], ["c", "d"]]}, r"confusion: expected"),
        (classified, {"confusion": None, "images": 3}, r"confusion: expected"),
        (classified, {"metrics": {"top1": "high"}}, r"metrics.*: expected"),
        (classified, {"metrics": 0.5}, r"metrics: expected"),
        (classified, {"samples": [{"name": "x"}]}, r"samples\[0\]\.label: this field is required"),
        (classified, {"samples": [{"name": "x", "label": 0, "top": [[0]]}]}, r"samples\[0\]\.top: expected"),
        (classified, {"task": "clasification"}, r"task: expected one of .*Did you mean 'classification'"),
        (classified, {"colour": 3}, r"colour: no such field"),
        (detected, {"table": [{"objects": 3}]}, r"table\[0\]\.label: this field is required"),
        (detected, {"curves": [{"kind": "ring", "iou50": []}]}, r"curves\[0\]\.kind: expected 'box' or 'mask'"),
        (segmented, {"confusion": [[1.5]]}, r"confusion: expected"),
        (segmented, {"table": 3}, r"table: expected a list"),
        (segmented, {"classes": "abc"}, r"classes: expected a list of strings"),
    ],
)
def test_a_damaged_evaluation_is_named_with_its_field(
    make: Any, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(make().to_dict() | changes))
    with pytest.raises(RunError, match=rf"(?s)evaluation\.json is damaged.*{message}"):
        read_evaluation(tmp_path)


@pytest.mark.parametrize("name", ["digits", "retinanet", "semantic_fpn"])
@pytest.mark.parametrize("value", [None, 3, "x", [1], {"a": 1}], ids=repr)
def test_no_wrong_type_in_any_field_becomes_an_error_of_python(name: str, value: Any, tmp_path: Path) -> None:
    """Each field in turn, of an evaluation as 0.1.0 wrote it: read, or refused in one message."""
    whole = json.loads((WRITTEN / "runs" / name / "evaluation.json").read_text())
    for field in whole:
        (tmp_path / "evaluation.json").write_text(json.dumps(whole | {field: value}))
        with suppress(RunError):
            read_evaluation(tmp_path)


@pytest.mark.parametrize("text", ['{"metrics": ', "[]", "\xff", "[" * 100_000], ids=["cut", "list", "bytes", "deep"])
def test_a_file_that_is_no_json_object_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=r"evaluation\.json: (not valid JSON|expected a JSON object)"):
        read_evaluation(tmp_path)
