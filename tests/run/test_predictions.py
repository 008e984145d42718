"""What ``predict`` writes: a drawing for each image, label maps, COCO's results; never over the images themselves."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metaformer.errors import DataError
from metaformer.run.predictions import expect_free, write_predictions
from metaformer.tasks.detection.detections import Detections
from metaformer.tasks.segmentation.predict import LabelMap
from metaformer.tasks.task import Task, task_named

IMAGE = Image.new("RGB", (20, 10), "gray")


def detections(*files: str | None) -> Iterator[Detections]:
    for file in files:
        yield Detections(
            xyxy=np.array([[2.0, 2.0, 8.0, 8.0]]), confidence=np.array([0.75]), class_id=np.array([1]),
            classes=("cat", "dog"), file=None if file is None else Path(file), image=IMAGE,
        )  # fmt: skip


def label_maps(*files: str | None) -> Iterator[LabelMap]:
    for file in files:
        labels = np.arange(200, dtype=np.uint8).reshape(10, 20) % 2
        yield LabelMap(labels=labels, classes=("cat", "dog"), file=None if file is None else Path(file), image=IMAGE)


@dataclass(frozen=True)
class Spoken:
    """A result without images, as a classifier's."""

    file: Path

    def images(self) -> dict[str, Image.Image]:
        return {}


def written(task: str | Task, results: Iterator[Any], out: Path) -> list[dict[str, str]]:
    found = task_named(task) if isinstance(task, str) else task
    every = list(write_predictions(found, results, out))
    return [{ending: path.name for ending, path in files.items()} for _, files in every]


def test_drawings_come_with_cocos_results(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    assert written("detection", detections("a.png", "b.jpg", None), out) == [
        {".png": "a.png"}, {".png": "b.png"}, {".png": "image.png"}
    ]  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    assert [(entry["image_id"], entry.get("file_name")) for entry in results] == [(1, "a.png"), (2, "b.jpg"), (3, None)]
    assert results[0]["bbox"] == [2.0, 2.0, 6.0, 6.0]
    with Image.open(out / "a.png") as drawing:
        assert drawing.size == IMAGE.size


def test_label_maps_are_written_beside_their_drawings(tmp_path: Path) -> None:
    assert written("segmentation", label_maps("a.png"), tmp_path) == [
        {".png": "a.png", ".labels.png": "a.labels.png"}
    ]  # fmt: skip
    with Image.open(tmp_path / "a.labels.png") as stored:
        assert stored.mode == "P"
        assert (np.asarray(stored).ravel() == np.arange(200) % 2).all()
    assert not (tmp_path / "results.json").exists()


def test_results_without_images_write_no_file(tmp_path: Path) -> None:
    assert written("classification", iter([Spoken(Path("a.png"))]), tmp_path / "out") == [{}]
    assert not (tmp_path / "out").exists()


def test_equal_names_from_two_folders_do_not_replace_each_other(tmp_path: Path) -> None:
    files = ("one/a.png", "two/a.png", "two/a-2.png", "two/a.labels.png", None, None)
    for make, task in ((detections, "detection"), (label_maps, "segmentation")):
        out = tmp_path / task
        names = [name for files_ in written(task, make(*files), out) for name in files_.values()]
        assert len(set(names)) == len(names)
        assert set(names) | {"results.json"} >= {path.name for path in out.iterdir()} >= set(names)


def test_results_are_written_while_they_come(tmp_path: Path) -> None:
    stream = write_predictions(task_named("detection"), detections("a.png", "b.png"), tmp_path)
    first, files = next(stream)
    assert files[".png"].is_file()
    assert first.image is IMAGE
    assert not (tmp_path / "b.png").exists()
    list(stream)
    assert (tmp_path / "results.json").is_file()


def test_label_maps_are_not_kept(tmp_path: Path) -> None:
    """Thousands of them would not fit into memory, and no file is made of all of them."""
    seen = []
    for result, _ in write_predictions(task_named("segmentation"), label_maps("a.png", "b.png", "c.png"), tmp_path):
        gc.collect()
        assert sum(one() is not None for one in seen) <= 1, "all but the one before are gone"
        seen.append(weakref.ref(result.labels))


def test_drawings_never_replace_images_nor_go_into_a_run_or_a_file(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "a.png")
    expect_free(tmp_path / "out", [tmp_path / "a.png"])
    expect_free(tmp_path, [IMAGE])
    with pytest.raises(DataError, match="contains the images themselves"):
        expect_free(tmp_path / "x" / "..", [tmp_path / "a.png"])
    with pytest.raises(DataError, match="is a file"):
        expect_free(tmp_path / "a.png", [])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="is a run's folder"):
        expect_free(tmp_path, [])
