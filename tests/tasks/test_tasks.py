"""The table of tasks: names, metrics, and which folder is laid out for which of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scenes as made
import torch
from drawn_sets import ade20k_folder, class_folder, coco_folder
from hypothesis import given
from hypothesis import strategies as st
from test_results import ColorClassifier

from metaformer.errors import DataError, RunError
from metaformer.metrics import MetricDef
from metaformer.recipe import DataConfig
from metaformer.tasks.task import TASKS, recognized_task, task_named, tasks

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "classification": class_folder,
    "detection": coco_folder,
    "segmentation": ade20k_folder,
}
MODELS: dict[str, Callable[[], Any]] = {
    "classification": ColorClassifier,
    "detection": made.ColorDetector,
    "segmentation": made.ColorSegmenter,
}


def test_a_task_is_found_by_its_name_and_a_wrong_name_gets_the_nearest() -> None:
    assert [task.name for task in tasks()] == list(TASKS)
    with pytest.raises(RunError, match=r"got 'detektion'\. Did you mean 'detection'"):
        task_named("detektion")


@pytest.mark.parametrize("name", TASKS)
def test_the_primary_metric_is_one_of_the_tasks_and_shown(name: str) -> None:
    task = task_named(name)
    names = [metric.name for metric in task.metrics]
    assert len(set(names)) == len(names)
    for measured in ((), names, ["box_ap"], ["loss"]):
        assert task.primary(measured) in task.metrics
        assert task.primary(measured).shown
    chance = task.chance(("a", "b", "c", "d"))
    assert chance is None or 0 <= chance < 1


@pytest.mark.parametrize("made_for", TASKS)
def test_a_folder_is_recognized_and_other_tasks_name_the_flag(made_for: str, tmp_path: Path) -> None:
    data = DataConfig(source=str(LAYOUTS[made_for](tmp_path / "set")))
    assert recognized_task(data).name == made_for
    assert len(task_named(made_for).open(data).train) > 0
    for name in TASKS:
        if name == made_for:
            continue
        with pytest.raises(DataError) as refused:
            task_named(name).open(data)
        if made_for != "classification":  # its layout is that of any folders
            assert f"layout; pass --task {made_for}" in str(refused.value)


@pytest.mark.parametrize("name", ["detection", "segmentation"])
def test_an_empty_folder_is_refused_without_a_guess(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        task_named(name).open(DataConfig(source=str(tmp_path)))
    assert "--task" not in str(refused.value)


@pytest.mark.parametrize("name", TASKS)
def test_an_image_and_made_up_ones_are_prepared_as_the_model_takes_them(name: str) -> None:
    task, model = task_named(name), MODELS[name]().eval()
    prepared = task.prepare(model, made.ObjectScenes().load(0)[0])
    random = task.random_inputs(model, 3)
    assert len(random) == 3
    assert all(torch.equal(one, other) for one, other in zip(random, task.random_inputs(model, 3), strict=True))
    for one in (prepared, *random):
        assert (one.ndim, one.shape[0], one.dtype) == (3, 3, torch.float32)
        with torch.no_grad():
            assert len(model([one] if name == "detection" else one[None])) == 1


# ---- a metric --------------------------------------------------------------------------------------------------------

HIGHER = MetricDef(name="share", label="share")
LOWER = MetricDef(name="error", label="error", unit="nats", better="lower")
_values = st.floats(allow_nan=True)


@given(st.lists(_values, max_size=8))
def test_the_best_of_some_values_is_their_maximum_or_minimum(values: list[float]) -> None:
    numbers = [value for value in values if not math.isnan(value)]
    assert HIGHER.best(values) == (max(numbers) if numbers else None)
    assert LOWER.best(values) == (min(numbers) if numbers else None)


@given(_values, _values)
def test_no_value_is_better_than_itself_and_of_two_at_most_one_is(one: float, other: float) -> None:
    for metric in (HIGHER, LOWER):
        assert not metric.is_better(one, one) or math.isnan(one)
        assert not (metric.is_better(one, other) and metric.is_better(other, one))
        assert metric.is_better(one, None) != math.isnan(one)
    if not math.isnan(one) and not math.isnan(other):
        assert HIGHER.is_better(one, other) == LOWER.is_better(other, one)


@pytest.mark.parametrize("name", TASKS)
def test_metrics_are_records(name: str) -> None:
    for metric in task_named(name).metrics:
        assert MetricDef.from_dict(json.loads(json.dumps(metric.to_dict()))) == metric
