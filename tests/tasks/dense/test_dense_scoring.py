"""What an evaluation writes down: the metric's own figures, a row for each class, and images that can be opened."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import scenes as made
import torch
from metaformer.tasks.dense.evaluate import SAMPLES, label_map, matches, score_detection, score_segmentation
from PIL import Image

from metaformer.data.decode import UnreadableImage
from metaformer.tasks.detection.objective import Detection
from metaformer.training.evaluation import evaluate


def image(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


@pytest.mark.parametrize("masks", [True, False])
def test_a_detectors_score_has_the_metrics_figures_and_its_tables(masks: bool) -> None:
    images, model = made.ObjectScenes(), made.ColorDetector(masks)
    loader = made.Loader(images, made.pixels)
    score = score_detection(model, images, made.CLASSES, loader)
    task = Detection(images.ground_truth(), len(made.CLASSES), masks)
    assert score.figures == evaluate(model, task, loader).figures
    assert ("mask_ap" in score.figures) == masks
    assert [row["label"] for row in score.table] == [0, 1]
    assert [row["objects"] for row in score.table] == [5, 3]
    assert np.mean([row["box_ap"] for row in score.table]) == pytest.approx(score.figures["box_ap"])
    assert {(c["kind"], c["label"]) for c in score.curves} == {
        (kind, label) for kind in (("box", "mask") if masks else ("box",)) for label in (None, 0, 1)
    }
    whole = next(curve for curve in score.curves if curve["label"] is None)
    assert len(whole["iou50"]) == len(whole["mean"]) == 101
    assert np.mean(whole["iou50"]) == pytest.approx(score.figures["box_ap50"], abs=1e-4)


def test_samples_of_a_detector_say_what_was_found_and_what_was_invented() -> None:
    images, model = made.ObjectScenes(), made.ColorDetector()
    score = score_detection(model, images, made.CLASSES, made.Loader(images, made.pixels))
    assert [sample["name"] for sample in score.samples] == [f"scenes/{i}.jpg" for i in range(5)]
    for index, sample in enumerate(score.samples):
        count = len(images.boxes(index))
        assert (sample["objects"], sample["found"], sample["invented"]) == (count, count, 1)
        assert sample["labels"] == list(range(count))
        assert image(sample["prediction"]).size == image(sample["truth"]).size == (made.WIDTH, made.HEIGHT)
        assert sample["prediction"] != sample["truth"]


def test_a_segmenters_score_has_the_matrix_and_the_classes_that_occur() -> None:
    images, model = made.LabeledScenes(), made.ColorSegmenter()
    loader = made.Loader(images, lambda image: made.pixels(image) - 0.5)
    score = score_segmentation(model, images, made.CLASSES, loader)
    assert np.array(score.confusion).sum() == 5 * (made.HEIGHT - 4) * made.WIDTH
    assert [row["label"] for row in score.table] == [0, 1, 2]
    assert [row["iou"] for row in score.table][1] == 0.0  # all of it stands in the half that the model is blind to
    assert np.mean([row["iou"] for row in score.table]) == pytest.approx(score.figures["miou"])
    assert score.images == 5
    accuracies = [sample["pixel_accuracy"] for sample in score.samples]
    assert np.mean(accuracies) == pytest.approx(score.figures["pixel_accuracy"], abs=0.02)  # other sizes were resized
    assert all(image(sample["truth"]).format == "JPEG" for sample in score.samples)


def test_few_of_many_images_are_shown_always_the_same_and_made_small() -> None:
    class Large(made.LabeledScenes):
        def load(self, index: int) -> tuple[Image.Image, torch.Tensor]:
            if index == 3:
                raise UnreadableImage(self.name(index), "cut")
            image, labels = super().load(index)
            return image.resize((960, 720)), labels.repeat_interleave(15, 0).repeat_interleave(15, 1)

    images, model = Large(count=SAMPLES + 1), made.ColorSegmenter()
    loader = made.Loader(made.LabeledScenes(count=2), lambda image: made.pixels(image) - 0.5)
    samples = score_segmentation(model, images, made.CLASSES, loader).samples
    assert SAMPLES - 1 <= len(samples) <= SAMPLES
    assert "scenes/3.jpg" not in {sample["name"] for sample in samples}
    assert {max(image(sample["prediction"]).size) for sample in samples} == {480}
    again = score_segmentation(model, images, made.CLASSES, loader).samples
    assert [s["name"] for s in again] == [s["name"] for s in samples]


def test_a_label_map_has_the_images_own_size_and_the_model_keeps_its_mode() -> None:
    model = made.ColorSegmenter().train()
    image, labels = made.LabeledScenes().load(1)
    answer = label_map(model, image)
    assert answer.shape == (made.HEIGHT, made.WIDTH)
    left = (labels.numpy()[:40, :28] == answer[:40, :28]).mean()
    assert left > 0.95
    assert model.training


def test_an_object_is_found_once_and_only_as_its_class() -> None:
    truth = {"boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]]), "labels": torch.tensor([0, 1])}
    boxes = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 40, 40], [20, 20, 40, 29]], dtype=float)
    assert matches(boxes[:2], [0, 0], truth) == 1
    assert matches(boxes[2:3], [0], truth) == 0
    assert matches(boxes, [0, 0, 1, 1], truth) == 2
    assert matches(boxes[3:], [1], truth) == 0  # at an overlap below one half
    assert matches(np.zeros((0, 4)), [], truth) == 0


def test_what_is_written_is_what_was_measured(tmp_path: Path) -> None:
    images = made.ObjectScenes(count=2)
    score = score_detection(made.ColorDetector(), images, made.CLASSES, made.Loader(images, made.pixels))
    data = json.loads(score.write(tmp_path / "evaluation.json", weights="best.safetensors").read_text())
    assert data.pop("weights") == "best.safetensors"
    assert data == json.loads(json.dumps(score.to_dict()))
    assert data["task"] == "detection"
    assert data["images"] == 2
