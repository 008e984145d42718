"""A predictor gives the same result for an image however it is given: as a file, in memory, alone or among others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_models import NAMES

import metaformer
from metaformer.errors import DataError, InputError, RunError, WeightsError
from metaformer.inference.predictor import Predictor
from metaformer.tasks.classification.predict import ClassScores
from metaformer.tasks.detection.detections import Detections
from metaformer.tasks.segmentation.predict import LabelMap
from metaformer.tasks.task import TASKS

RESULTS = {"classification": ClassScores, "detection": Detections, "segmentation": LabelMap}
every_task = pytest.mark.parametrize("task", TASKS)


def plain(result: Any) -> Any:
    """Without its file."""
    return {name: value for name, value in result.to_dict().items() if name != "file"}


def close(one: Any, other: Any) -> bool:
    """Equal but for the last digits, which a batch of another size may change."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == pytest.approx(other, abs=1e-4) if isinstance(one, float) else one == other


@every_task
def test_files_folders_images_and_arrays_give_the_same_results(
    task: str, weights: dict[str, Path], photos: Path
) -> None:
    predictor: Predictor[Any] = Predictor(weights[task], device="cpu")
    assert (predictor.task.name, predictor.classes) == (task, NAMES)
    files = sorted(photos.iterdir())
    by_folder = predictor(photos, score=0.0)
    assert [result.file for result in by_folder] == files
    assert {type(result) for result in by_folder} == {RESULTS[task]}
    assert task != "detection" or all(len(result) for result in by_folder)
    assert json.loads(json.dumps([result.to_dict() for result in by_folder]))
    images = [Image.open(file) for file in files]
    arrays = [np.asarray(image) for image in images]
    for given in (files, [str(file) for file in files], f"{photos}/*.png", images, arrays, iter(images)):
        results = predictor(given, score=0.0)
        assert [plain(result) for result in results] == [plain(result) for result in by_folder]
    assert [result.file for result in predictor(images)] == [None] * 3
    (alone,) = predictor(files[1], score=0.0, batch_size=1)
    assert close(plain(alone), plain(by_folder[1]))
    in_pairs = predictor(photos, score=0.0, batch_size=2)
    assert all(close(plain(one), plain(other)) for one, other in zip(in_pairs, by_folder, strict=True))


@every_task
def test_asking_once_is_asking_a_predictor(task: str, weights: dict[str, Path], photos: Path) -> None:
    once = metaformer.predict(weights[task], photos, top=2, score=0.2, device="cpu")
    predictor: Predictor[Any] = Predictor(weights[task], device="cpu")
    assert [one.to_dict() for one in once] == [one.to_dict() for one in predictor(photos, top=2, score=0.2)]
    assert metaformer.Predictor is Predictor


@every_task
def test_a_result_keeps_the_image_to_draw_on(task: str, weights: dict[str, Path], photos: Path) -> None:
    (result, *_) = Predictor[Any](weights[task], device="cpu")(photos / "0.png", score=0.0)
    drawing = result.draw()
    assert (drawing is None) == (task == "classification")
    if drawing is not None:
        assert drawing.width == Image.open(photos / "0.png").width
    assert sorted(result.images()) == {"classification": [], "detection": [".png"]}.get(task, [".labels.png", ".png"])


def test_gray_images_are_read_in_the_models_channels(weights: dict[str, Path]) -> None:
    gray = Image.effect_noise((20, 20), 60)
    predictor: Predictor[Any] = Predictor(weights["classification"], device="cpu")
    assert plain(predictor(gray)[0]) == plain(predictor(gray.convert("RGB"))[0])


@pytest.mark.parametrize("as_image", [True, False])
def test_an_unreadable_image_is_refused_or_left_out(
    weights: dict[str, Path], photos: Path, tmp_path: Path, as_image: bool
) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes((photos / "0.png").read_bytes()[:2000])
    predictor: Predictor[Any] = Predictor(weights["classification"], device="cpu")
    given = [photos / "0.png", Image.open(path) if as_image else path, photos / "1.png"]
    with pytest.raises(DataError, match=r"cut\.png is not a readable image.*--on-bad-image skip"):
        predictor(given)
    results = predictor(given, on_bad_image="skip", batch_size=1)
    assert [result.file for result in results] == [photos / "0.png", photos / "1.png"]
    assert [Path(bad.name).name for bad in predictor.skipped] == ["cut.png"]
    predictor(photos)
    assert predictor.skipped == []


def test_results_come_one_by_one(weights: dict[str, Path], photos: Path) -> None:
    stream = Predictor[Any](weights["classification"], device="cpu").stream(photos, batch_size=1)
    assert next(stream).file == photos / "0.png"
    assert len(list(stream)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top: expected at least 1, got 0"),
        ({"score": 1.5}, "score: expected a number from 0 to 1, got 1.5"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    weights: dict[str, Path], photos: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        Predictor[Any](weights["classification"], device="cpu")(photos, **options)


def test_mistakes_are_refused_in_one_message(weights: dict[str, Path], tmp_path: Path) -> None:
    predictor: Predictor[Any] = Predictor(weights["classification"], device="cpu")
    with pytest.raises(DataError, match=r"nowhere\.png: no such file or folder"):
        predictor(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="no images given"):
        predictor([])
    with pytest.raises(WeightsError, match="no weights given"):
        Predictor(None)
    with pytest.raises(WeightsError, match="poolformer_s12"):
        Predictor("poolformer_s1")
    with pytest.raises(InputError, match="device"):
        Predictor(weights["classification"], device="tpu")  # type: ignore[arg-type]
