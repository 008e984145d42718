"""Sweeps of every task: by its own primary metric, with models that fit its images, or refused before any run."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brightness_child import LINE
from dense_run import narrow
from drawn_sets import LABELS, ade20k_folder, coco_folder
from PIL import Image
from tiny_sweep import swept

from metaformer.ablation import ablate as ablations
from metaformer.ablation.folder import SweepFolder
from metaformer.ablation.job import Job, JobResult, run_job
from metaformer.ablation.report.findings import findings
from metaformer.ablation.report.page import write_sweep_page
from metaformer.ablation.report.results import SweepResults, read_results
from metaformer.cli.app import main
from metaformer.run.config import RunConfig
from metaformer.tasks import task as tasks

PLAN = """
base: {{model: poolformer_s12, width: 0.125, change: {{name: shallow, stages: {{depth: 1}}}}, published: 37.2}}
recipe:
  task: {task}
  data: {{source: {data}}}
  optimizer: {{epochs: 1, batch_size: 4, lr: 3e-3}}
  augmentation: {{hflip: 0.5}}
  dense: {{short_side: 56, long_side: 112, system: {system}}}
  machine: {{device: cpu, threads: 1}}
changes:
  - {{name: identity, mixers: identity, published: 36.0{more}}}
"""


class InProcess:
    """Runs the jobs here, one at a time, as they arrive in a worker."""

    where, size = "this process", 1

    def __init__(self) -> None:
        self.running: Sequence[Job] = []

    def submit(self, job: Job) -> None:
        self.running = [job]

    def results(self, timeout: float) -> list[JobResult]:
        finished, self.running = self.running, []
        return [JobResult.from_dict(run_job(Job.from_dict(job.to_dict())).to_dict()) for job in finished]

    def stop(self) -> None:
        """It runs no job between two calls."""

    shutdown = stop


def plan_of(folder: Path, task: str, data: Path, system: str = "null", more: str = "") -> Path:
    path = folder / "plan.yaml"
    path.write_text(PLAN.format(task=task, data=data, system=system, more=more))
    return path


def reported(out: Path, column: str) -> SweepResults:
    """A sweep's results, once its report is written and its table has the metric's column."""
    page = write_sweep_page(out)
    assert read_results(out).metric.label in page.read_text()
    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["base", "identity"]
    assert all(0 <= float(row[column]) <= 100 for row in rows)
    assert not any("top1" in name for name in rows[0])
    return read_results(out)


def test_segmenters_are_compared_by_mean_iou(tmp_path: Path) -> None:
    plan, out = plan_of(tmp_path, "segmentation", ade20k_folder(tmp_path / "data", 4, 2)), tmp_path / "out"
    printed = swept(plan, out, workers=1)
    assert "identity/seed-0" in printed
    assert "mIoU" in printed
    results = reported(out, "miou_percent")
    stored = results.files.plan
    assert (stored.data.classes, stored.data.channels, stored.data.side) == (LABELS, 3, 56)
    assert [stage.width for stage in stored.variants[0].spec.stages] == [8, 16, 40, 64]
    assert stored.variants[0].spec.stem_stride == 4  # 56 / 8 would be more than the published step
    evaluated = json.loads((out / "runs/identity/seed-0/evaluation.json").read_text())["metrics"]["miou"]
    assert results.rows[1].values == {0: pytest.approx(100 * evaluated)}
    assert findings(results)[0].startswith("mIoU of the base is ")
    assert results.rows[1].published_difference == pytest.approx(-1.2)


def test_detectors_are_compared_by_average_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablations, "_executor_starter", lambda *_: InProcess)
    data, out = coco_folder(tmp_path / "data", masks=False), tmp_path / "out"
    with narrow():
        swept(plan_of(tmp_path, "detection", data), out)
    results = reported(out, "box_ap_percent")
    assert results.done == (2, 2)
    config = RunConfig.read(out / "runs/identity/seed-0")
    assert (config.primary, config.spec.mixers[0].name) == ("box_ap", "identity")
    assert SweepFolder(out).settled(results.files.plan) == {"base/seed-0", "identity/seed-0"}


def test_a_task_of_ones_own_is_compared_by_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fourth task of the tests: no labels, no chance value, and a metric that is better when it is lower."""
    monkeypatch.setattr(tasks, "TASKS", tasks.TASKS | LINE)
    tasks.task_named.cache_clear()
    monkeypatch.setattr(ablations, "_executor_starter", lambda *_: InProcess)
    data, out = tmp_path / "data", tmp_path / "out"
    for part, count in (("train", 8), ("val", 4)):
        (data / part).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((16, 16, 3), 25 * i, np.uint8)).save(data / part / f"{i}.png")
    (data / "brightness.txt").touch()
    swept(plan_of(tmp_path, "brightness", data), out)
    write_sweep_page(out)
    results = read_results(out)
    assert (results.metric.name, results.metric.better, results.files.chance) == ("mean_error", "lower", None)
    assert results.rows[1].is_better == (results.rows[1].values[0] < results.rows[0].values[0])
    with (out / "table.csv").open() as file:
        assert {"mean_error", "mean_error_deviation"} <= next(csv.DictReader(file)).keys()
    assert "Mean error of the base is " in findings(results)[0]


def refusal(capfd: pytest.CaptureFixture[str], out: Path, *words: str) -> str:
    """The only line that a refused sweep prints; nothing is written."""
    status = main(["ablate", *words, "--out", str(out)])
    printed = capfd.readouterr()
    assert (status, printed.out) == (2, "")
    assert not out.exists()
    (message,) = " ".join(printed.err.split()).split("error: ")[1:]
    return message


def test_what_cannot_work_is_refused_before_any_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    maps, objects = ade20k_folder(tmp_path / "maps"), coco_folder(tmp_path / "objects")
    small = ("--dense.short-side", "64")
    for words, expected in (
        (("demo", "--task", "segmentation", "--data", "digits"), "there is no folder digits; expected a folder with"),
        (("demo", "--data", str(maps)), "is in ADE20K's layout; pass --task segmentation"),
        (("demo", "--task", "segmentation", "--data", str(objects)), "is in COCO's layout; pass --task detection"),
        (("demo", "--task", "segmentaton", "--data", str(maps)), "Did you mean 'segmentation'"),
        (("demo", "--task", "detection", "--data", str(objects), "--model", "resnet18"), "resnet18 is timm's CNN"),
        (
            ("mixers", "--task", "segmentation", "--data", str(maps), "--only", "spatial FC", *small),
            "spatial FC: backbone.stages.0.blocks.0.mixer: SpatialFC mixes a fixed grid",
        ),
        (
            ("demo", "--task", "segmentation", "--data", str(maps), "--dense.system", "mask_rcnn", *small),
            "dense.system: expected semantic_fpn for segmentation, got mask_rcnn",
        ),
    ):
        assert expected in refusal(capfd, tmp_path / "out", *words)


def test_variants_with_different_metrics_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    change = ", recipe: {dense: {system: retinanet}}"
    plan = plan_of(tmp_path, "detection", coco_folder(tmp_path / "data"), "mask_rcnn", change)
    message = refusal(capfd, tmp_path / "out", str(plan))
    assert "identity: its primary metric is box AP, that of the base is mask AP" in message


def test_another_task_has_none_of_the_plans_published_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: dict[str, Any] = {}

    def keep(plan: Any, *_: Any, **__: Any) -> None:
        stored["plan"] = plan

    monkeypatch.setattr(ablations, "run_sweep", keep)
    changed = {"task": "segmentation", "data": {"source": str(ade20k_folder(tmp_path / "data"))}}
    swept(Path("demo"), tmp_path / "out", changed=changed | {"dense": {"short_side": 64}})
    assert {variant.published for variant in stored["plan"].variants} == {None}
