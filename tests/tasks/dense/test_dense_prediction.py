"""What a detector or a segmenter sees in files: drawn, and written so that other tools can read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scenes as made
from metaformer.inference.draw_folder import DensePredictions, predict_dense
from PIL import Image
from pycocotools import mask as reference

from metaformer.errors import DataError
from metaformer.inference.loaded import LoadedModel
from metaformer.render.annotate import class_color


def photos(folder: Path, names: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        made.ObjectScenes().load(index)[0].save(folder / name)
    return folder


def predicted(model: Any, tmp_path: Path, *, source: Path | None = None, **more: Any) -> DensePredictions:
    source = source or photos(tmp_path / "photos")
    return predict_dense(LoadedModel(model, made.CLASSES, "colors"), [source], tmp_path / "out", **more)


def test_objects_are_drawn_and_written_as_coco_results(tmp_path: Path) -> None:
    predictions = predicted(made.ColorDetector(), tmp_path)
    first, second = predictions.answers
    assert [one.name for one in first.objects] == ["red <disc>", "green & square", "red <disc>"]
    assert [round(one.score, 2) for one in second.objects] == [0.9, 0.55]
    assert first.objects[0].box == (4.0, 6.0, 24.0, 30.0)
    drawn = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert drawn.shape == (made.HEIGHT, made.WIDTH, 3)
    assert {class_color(0), class_color(1)} <= {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()}
    assert predictions.results is not None
    results = json.loads(predictions.results.read_text())
    assert [(entry["image_id"], entry["file_name"], entry["category_id"]) for entry in results] == [
        (1, "a.png", 1), (1, "a.png", 2), (1, "a.png", 1), (2, "b.png", 1), (2, "b.png", 1)
    ]  # fmt: skip
    assert results[0]["bbox"] == [4.0, 6.0, 20.0, 24.0]
    mask = reference.decode(results[0]["segmentation"])
    assert mask.shape == (made.HEIGHT, made.WIDTH)
    assert mask.sum() == 20 * 24


def test_only_what_is_sure_enough_is_told(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    for score, count in ((0.0, 4), (0.6, 2), (0.95, 0)):
        answers = predicted(made.ColorDetector(), tmp_path, source=source, score=score).answers
        assert len(answers[0].objects) == count


def test_images_named_by_numbers_keep_them_and_labels_their_data_sets_numbers(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", ("000000000139.png", "000000000785.png"))
    predictions = predicted(made.ColorDetector(masks=False), tmp_path, source=source, category_ids=(44, 90, 1))
    assert predictions.results is not None
    results = json.loads(predictions.results.read_text())
    assert {entry["image_id"] for entry in results} == {139, 785}
    assert {entry["category_id"] for entry in results} == {44, 90}


def test_label_maps_are_drawn_with_a_legend_and_written_as_numbers(tmp_path: Path) -> None:
    predictions = predicted(made.ColorSegmenter(), tmp_path)
    first = predictions.answers[0]
    assert predictions.results is None
    assert first.labels == tmp_path / "out" / "a.labels.png"
    with Image.open(first.labels) as stored:
        assert stored.mode == "P"
        labels = np.asarray(stored)
        assert stored.getpalette()[:6] == [*class_color(0), *class_color(1)]  # type: ignore[index]
    assert labels.shape == (made.HEIGHT, made.WIDTH)
    assert set(np.unique(labels)) == {0, 2}
    assert labels[15, 10] == 0
    assert [one.label for one in first.shares] == [2, 0]
    assert sum(one.share for one in first.shares) == pytest.approx(1)
    assert first.shares[1].share == pytest.approx((labels == 0).mean())
    drawn = Image.open(first.drawing)
    assert drawn.width == made.WIDTH
    assert drawn.height > made.HEIGHT


def test_json_has_what_is_printed(tmp_path: Path) -> None:
    objects = predicted(made.ColorDetector(), tmp_path).answers[0].to_dict()
    assert objects["objects"][0] == {"class": "red <disc>", "index": 0, "score": 0.9, "box": [4.0, 6.0, 24.0, 30.0]}
    classes = predicted(made.ColorSegmenter(), tmp_path, source=tmp_path / "photos").answers[0].to_dict()
    assert classes["classes"][0]["class"] == "nothing"
    assert json.dumps([objects, classes])


def test_equal_names_from_two_folders_do_not_replace_each_other(tmp_path: Path) -> None:
    photos(tmp_path / "photos" / "one", ("a.png",))
    photos(tmp_path / "photos" / "two", ("a.png", "a-2.png", "a.labels.png"))
    answers = predicted(made.ColorDetector(), tmp_path, source=tmp_path / "photos").answers
    assert len({answer.drawing for answer in answers}) == 4
    assert all(answer.drawing.is_file() for answer in answers)


def test_a_file_that_is_no_image_is_said_or_left_out(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    (source / "c.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"c\.png.*--on-bad-image skip"):
        predicted(made.ColorDetector(), tmp_path, source=source)
    told: list[tuple[int, int]] = []
    predictions = predicted(
        made.ColorDetector(), tmp_path, source=source, on_bad_image="skip", each_image=lambda *x: told.append(x)
    )
    assert [Path(bad.path).name for bad in predictions.skipped] == ["c.png"]
    assert len(predictions.answers) == 2
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_no_image_is_replaced_by_its_drawing(tmp_path: Path) -> None:
    source = photos(tmp_path / "out")
    before = (source / "a.png").read_bytes()
    with pytest.raises(DataError, match="holds the images themselves"):
        predicted(made.ColorDetector(), tmp_path, source=source / "a.png")
    assert (source / "a.png").read_bytes() == before


def test_drawings_do_not_go_into_a_run_or_a_file(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="is a file"):
        predicted(made.ColorDetector(), tmp_path, source=source)
    (tmp_path / "out").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(DataError, match="is a run's folder"):
        predicted(made.ColorDetector(), tmp_path, source=source)
