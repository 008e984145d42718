"""What a task predicts of an image: values for code, for JSON and COCO, a drawing, lines for a terminal."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scenes as made
import torch
from PIL import Image
from pycocotools import mask as reference
from rich.console import Console
from torch import nn

from metaformer.render.annotate import class_color
from metaformer.spec.model import ModelSpec, StageSpec
from metaformer.tasks.classification.predict import ClassScores
from metaformer.tasks.detection.detections import Detections
from metaformer.tasks.detection.predict import coco_results
from metaformer.tasks.segmentation.predict import LabelMap
from metaformer.tasks.task import PredictionOptions, task_named
from metaformer.types import Preprocessing


class ColorClassifier(nn.Module):
    """Scores the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = ModelSpec(stages=(StageSpec(depth=1, width=8),), num_classes=3, img_size=(16, 16))
        self.preprocessing = Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(1.0,) * 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) * 4


def image(index: int = 0) -> Image.Image:
    return made.ObjectScenes().load(index)[0]


def detected(index: int = 0, *, masks: bool = True, score: float = 0.5) -> Detections:
    options = PredictionOptions(score=score)
    (found,) = task_named("detection").predict(made.ColorDetector(masks).eval(), [image(index)], made.CLASSES, options)
    assert isinstance(found, Detections)
    return found


def segmented(index: int = 0) -> LabelMap:
    options = PredictionOptions()
    (found,) = task_named("segmentation").predict(made.ColorSegmenter().eval(), [image(index)], made.CLASSES, options)
    assert isinstance(found, LabelMap)
    return found


def classified(top: int = 5) -> ClassScores:
    options = PredictionOptions(top=top)
    (found,) = task_named("classification").predict(ColorClassifier().eval(), [image()], made.CLASSES, options)
    assert isinstance(found, ClassScores)
    return found


def printed(result: Any) -> str:
    text = io.StringIO()
    Console(width=100, file=text).print(result)
    return text.getvalue()


# ---- every task ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [classified, detected, segmented])
def test_a_result_is_json_has_its_file_and_can_be_printed_and_sent(make: Any) -> None:
    result = replace(make(), file=Path("some folder/[red]x.png"))
    assert json.loads(json.dumps(result.to_dict()))["file"] == "some folder/[red]x.png"
    assert "red <disc>" in printed(result)
    assert "[red]x.png" in printed(result)
    assert pickle.loads(pickle.dumps(result)).to_dict() == result.to_dict()
    assert make().to_dict()["file"] is None
    drawing = result.draw()
    assert (drawing is None) == (not result.images())
    assert drawing is None or drawing.width == made.WIDTH
    assert replace(result, image=None).draw() is None if drawing else True


# ---- classification --------------------------------------------------------------------------------------------------


def test_classes_come_by_their_probability() -> None:
    scores = classified()
    assert scores.probabilities.shape == (3,)
    assert scores.probabilities.sum() == pytest.approx(1)
    order = np.argsort(-scores.probabilities)
    assert [one.index for one in scores.top] == order.tolist()
    assert [one.name for one in scores.top] == [made.CLASSES[i] for i in order]
    assert (scores.class_name, scores.class_id) == (made.CLASSES[order[0]], order[0])
    assert scores.confidence == pytest.approx(scores.probabilities.max())
    assert len(classified(top=2).top) == 2
    assert scores.to_dict()["top"][0] == {
        "class": scores.class_name, "index": scores.class_id, "probability": round(scores.confidence, 6)
    }  # fmt: skip


# ---- detection -------------------------------------------------------------------------------------------------------


def test_detections_have_the_fields_of_supervision() -> None:
    found = detected(score=0.0)
    assert found.class_name == ["red <disc>", "green & square", "red <disc>", "green & square"]
    np.testing.assert_allclose(found.confidence, [0.9, 0.8, 0.55, 0.1])
    assert found.class_id.tolist() == [0, 1, 0, 1]
    assert found.xyxy.shape == (4, 4)
    assert found.xyxy[0].tolist() == [4.0, 6.0, 24.0, 30.0]
    assert found.mask is not None
    assert (found.mask.shape, found.mask.dtype) == ((4, made.HEIGHT, made.WIDTH), bool)
    assert found.mask[0].sum() == 20 * 24
    assert detected(masks=False).mask is None
    assert [(box.tolist(), label) for box, _, label in found][1] == ([36.0, 10.0, 60.0, 34.0], 1)


@pytest.mark.parametrize(("score", "count"), [(0.0, 4), (0.6, 2), (0.95, 0)])
def test_only_what_is_sure_enough_is_kept(score: float, count: int) -> None:
    found = detected(score=score)
    assert len(found) == len(found.to_dict()["objects"]) == len(found.to_coco()) == count
    assert found.mask is not None
    assert found.mask.shape == (count, made.HEIGHT, made.WIDTH)
    assert found.draw() is not None
    assert ("nothing above the score" in printed(found)) == (count == 0)


def test_some_of_the_detections_are_detections() -> None:
    found = detected(score=0.0)
    sure = found[found.confidence > 0.5]
    assert len(sure) == 3
    assert sure.to_coco() == found.to_coco()[:3] == found[:3].to_coco() == found[np.array([0, 1, 2])].to_coco()
    assert sure.mask is not None
    assert sure.mask.shape[0] == 3


def test_objects_are_drawn_and_become_coco_results() -> None:
    found = detected()
    drawn = np.asarray(found.draw())
    assert drawn.shape == (made.HEIGHT, made.WIDTH, 3)
    assert {class_color(0), class_color(1)} <= {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()}
    first = found.to_coco()[0]
    assert first["bbox"] == [4.0, 6.0, 20.0, 24.0]
    mask = reference.decode(first["segmentation"])
    assert mask.shape == (made.HEIGHT, made.WIDTH)
    assert mask.sum() == 20 * 24
    assert found.to_dict()["objects"][0] == {
        "class": "red <disc>", "index": 0, "score": 0.9, "box": [4.0, 6.0, 24.0, 30.0]
    }  # fmt: skip


def named(index: int, name: str) -> Detections:
    return replace(detected(index), file=Path(name))


def test_coco_results_number_images_by_their_names_or_by_their_order() -> None:
    entries = coco_results([named(0, "x/a.png"), named(1, "x/b.png")])
    assert [(entry["image_id"], entry["file_name"], entry["category_id"]) for entry in entries] == [
        (1, "a.png", 1), (1, "a.png", 2), (1, "a.png", 1), (2, "b.png", 1), (2, "b.png", 1)
    ]  # fmt: skip
    numbered = coco_results([named(0, "000000000139.png"), named(1, "000000000785.png")], category_ids=(44, 90, 1))
    assert {entry["image_id"] for entry in numbered} == {139, 785}
    assert {entry["category_id"] for entry in numbered} == {44, 90}
    assert {entry["image_id"] for entry in coco_results([named(0, "one/7.png"), named(1, "two/7.png")])} == {1, 2}
    assert {entry["image_id"] for entry in coco_results([detected(0), detected(1)])} == {1, 2}


# ---- segmentation ----------------------------------------------------------------------------------------------------


def test_a_label_map_has_the_shares_of_its_classes() -> None:
    found = segmented()
    assert (found.labels.shape, found.labels.dtype) == ((made.HEIGHT, made.WIDTH), np.uint8)
    assert set(np.unique(found.labels)) == {0, 2}
    assert found.labels[15, 10] == 0
    assert [(one.index, one.name) for one in found.shares] == [(2, "ground"), (0, "red <disc>")]
    assert sum(one.share for one in found.shares) == pytest.approx(1)
    assert found.shares[1].share == pytest.approx((found.labels == 0).mean())
    assert found.to_dict()["classes"][0]["class"] == "ground"


def test_label_maps_are_drawn_with_a_legend_and_kept_as_numbers() -> None:
    found = segmented()
    drawing, indexed = found.images()[".png"], found.images()[".labels.png"]
    assert drawing.width == made.WIDTH
    assert drawing.height > made.HEIGHT
    assert indexed.mode == "P"
    assert (np.asarray(indexed) == found.labels).all()
    assert indexed.getpalette()[:6] == [*class_color(0), *class_color(1)]  # type: ignore[index]
