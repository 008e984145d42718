"""Evaluating measures the weights it is given on the part it is asked for, and writes only where it is asked to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dense_run import narrow
from drawn_sets import class_folder, coco_folder
from test_pins import PINS, WRITTEN
from tiny_run import QUIET, contents

from metaformer.errors import DataError, InputError, RunError
from metaformer.recipe import DataConfig
from metaformer.run.data import is_own_data
from metaformer.run.evaluate import evaluate, write_report
from metaformer.run.evaluation_file import read_evaluation
from metaformer.run.train import RunResult
from metaformer.tasks.classification.evaluation import ClassificationEvaluation


def images_of(run: RunResult | Path, source: Path | None = None, **options: object) -> int:
    data = None if source is None else DataConfig(source=str(source))
    return evaluate(getattr(run, "folder", run), data, console=QUIET, **options).images  # type: ignore[arg-type]


def test_the_evaluation_is_that_of_the_weights_it_names(run: RunResult, images: Path) -> None:
    written = read_evaluation(run.folder)
    assert isinstance(written, ClassificationEvaluation)
    assert np.sum(written.confusion) == written.images == len(written.samples) == 6
    again = evaluate(run.folder / written.weights, DataConfig(source=str(images)), console=QUIET)
    assert isinstance(again, ClassificationEvaluation)
    assert again.metrics == pytest.approx(written.metrics, rel=1e-5)
    assert (again.confusion, again.classes) == (written.confusion, written.classes)


@pytest.mark.parametrize("name", ["digits", "photos", "retinanet"])
def test_weights_of_0_1_0_come_to_what_they_came_to(name: str, tmp_path: Path) -> None:
    make = {"photos": class_folder, "retinanet": lambda root: coco_folder(root, 16, masks=False)}.get(name)
    data = None if make is None else DataConfig(source=str(make(tmp_path / "data")))
    with narrow():
        result = evaluate(WRITTEN / "runs" / name, data, part="val", console=QUIET)
    assert dict(result.metrics) == pytest.approx(PINS[name]["figures"], rel=1e-4)


def test_evaluating_writes_only_where_asked(run: RunResult, tmp_path: Path) -> None:
    before = contents(run.folder)
    result = evaluate(run.folder, part="all", console=QUIET)
    assert contents(run.folder) == before
    assert result.images == 18
    write_report(result, tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {"evaluation.json", "confusion.png", "predictions.png"}
    assert read_evaluation(tmp_path / "out") == result
    with pytest.raises(RunError, match="run's folder"):
        write_report(result, run.folder)
    with pytest.raises(RunError, match="is a file; expected a folder"):
        write_report(result, tmp_path / "out" / "evaluation.json")


def test_a_folder_without_parts_that_was_not_trained_on_is_evaluated_whole(run: RunResult, tmp_path: Path) -> None:
    whole = class_folder(tmp_path / "other") / "train"
    assert images_of(run, whole) == 12
    assert images_of(run, whole, part="val") < 12
    assert images_of(run.folder / "best.safetensors", whole) == 12
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((run.folder / "best.safetensors").read_bytes())
    assert images_of(alone, whole) < 12, "it may have been trained on these images"


def test_whose_data_it_is_follows_from_the_run(run: RunResult, images: Path, tmp_path: Path) -> None:
    own, other = DataConfig(source=str(images)), DataConfig(source=str(tmp_path))
    assert is_own_data(own, run.folder)
    assert is_own_data(DataConfig(source=f"{images}/../{images.name}"), run.folder / "last.safetensors")
    assert not is_own_data(other, run.folder)
    assert is_own_data(other, tmp_path / "unknown.pth"), "a file does not say"
    assert not is_own_data(other, None)
    assert not is_own_data(other, "poolformer_s12"), "published weights were trained on ImageNet"


@pytest.mark.parametrize(("part", "count"), [("train", 12), ("val", 6), ("all", 18), (None, 6)])
def test_a_part_is_evaluated_in_batches_of_any_size(run: RunResult, part: str | None, count: int) -> None:
    results = [evaluate(run.folder, part=part, batch_size=size, console=QUIET) for size in (1, 7)]  # type: ignore[arg-type]
    assert [result.images for result in results] == [count, count]
    assert results[0].metrics == pytest.approx(results[1].metrics, rel=1e-5)


def test_mistakes_are_refused_in_one_message(run: RunResult, tmp_path: Path) -> None:
    other = class_folder(
        tmp_path / "other", colors={"blue": (0, 0, 250), "green": (0, 250, 0), "pink": (250, 150, 150)}
    )
    with pytest.raises(DataError, match="red only in the model, pink only in the dataset"):
        images_of(run, other)
    with pytest.raises(DataError, match="no data given; pass --data"):
        evaluate(None, model="poolformer_s12", console=QUIET)
    with pytest.raises(InputError, match="part: expected 'val', 'train', 'all' or None, got 'test'"):
        images_of(run, part="test")
    with pytest.raises(InputError, match="batch_size: expected at least 1, got 0"):
        images_of(run, batch_size=0)
