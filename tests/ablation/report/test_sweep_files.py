"""A sweep's folder is read at any time: what is not there is missing, what is damaged is named."""

from __future__ import annotations

import json
from pathlib import Path

import fabricated as fake
import pytest

from metaformer.ablation.report.files import read_sweep
from metaformer.errors import RunError


def journal(folder: Path, *events: dict[str, object] | str) -> None:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    (folder / "journal.jsonl").write_text("\n".join(lines))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return fake.sweep_folder(tmp_path / "sweep")


def test_every_planned_run_is_there_in_the_plans_order(sweep: Path) -> None:
    files = read_sweep(sweep)
    assert [variant.name for variant in files.variants] == [entry["name"] for entry in fake.VARIANTS]
    assert [run.key for run in files.runs[:4]] == [
        "poolformer/seed-0", "poolformer/seed-1", "poolformer/seed-2", "identity/seed-0",
    ]  # fmt: skip
    assert [run.accuracy for run in files.of_variant["identity"]] == pytest.approx([93.0, 94.2, 93.6])
    assert files.done == 18


def test_a_run_that_broke_down_counts_as_chance(sweep: Path) -> None:
    broken, whole, _ = read_sweep(sweep).of_variant["no residual"]
    assert (broken.state, broken.accuracy) == ("broke down", 10.0)
    assert broken.broke_down == "the loss is nan in epoch 1, update 3 of 40"
    assert (whole.state, whole.accuracy) == ("finished", 20.0)


def test_runs_without_a_result_are_missing(tmp_path: Path) -> None:
    folder = fake.sweep_folder(tmp_path, results=fake.RESULTS | {"identity": (0.9, None, 0.9)})
    (folder / "runs/identity/seed-2/evaluation.json").unlink()
    first, second, third = read_sweep(folder).of_variant["identity"]
    assert [run.state for run in (first, second, third)] == ["finished", "not finished", "not finished"]
    assert second.files is None
    assert third.files is not None


def test_the_last_word_of_the_journal_counts(sweep: Path) -> None:
    run = {"run": "poolformer/seed-0"}
    broke = {"time": 2.0, "event": "broke down", "reason": "nan", **run}
    journal(sweep, {"time": 1.0, "event": "started", **run}, broke)
    assert read_sweep(sweep).runs[0].broke_down == "nan"
    journal(sweep, broke, {"time": 3.0, "event": "finished", "seconds": 5.0, **run})
    assert read_sweep(sweep).runs[0].state == "finished"


def test_sessions_last_to_their_end_or_to_the_last_sign_of_life(sweep: Path) -> None:
    journal(
        sweep,
        {"time": 100.0, "event": "sweep started", "workers": 2, "where": "this machine"},
        {"time": 160.0, "event": "started", "run": "poolformer/seed-0", "attempt": 1},
        '{"time": 170.0, "event": "fini',
        {"time": 1000.0, "event": "sweep started", "workers": 3, "where": "Ray"},
        {"time": 1050.0, "event": "finished", "run": "poolformer/seed-0", "seconds": 48.0},
        {"time": 1060.0, "event": "broke down", "run": "identity/seed-0", "seconds": 2.0},
        {"time": 1070.0, "event": "sweep ended", "seconds": 69.5},
        '{"time": 10',
    )
    files = read_sweep(sweep)
    assert [(s.workers, s.where, s.seconds) for s in files.sessions] == [(2, "this machine", 60.0), (3, "Ray", 69.5)]
    assert files.worker_seconds == 50.0


def test_without_a_journal_the_results_remain(sweep: Path) -> None:
    (sweep / "journal.jsonl").unlink()
    files = read_sweep(sweep)
    assert files.sessions == ()
    assert files.done == 16  # the two that broke down left no evaluation


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "expected format 1, got 2"),
        ({"variants": []}, "variants missing or empty"),
        ({"base": "nobody"}, "the base 'nobody' is none of the variants"),
        ({"data": {"classes": []}}, "data.classes missing or empty"),
        ({"variants": [fake.VARIANTS[0], fake.VARIANTS[0]]}, "PoolFormer stands in the plan more than once"),
        ({"variants": [fake.VARIANTS[0], {"name": "no slug"}]}, "a variant without 'slug'"),
    ],
)
def test_a_damaged_plan_is_refused(sweep: Path, change: dict[str, object], said: str) -> None:
    (sweep / "plan.json").write_text(json.dumps(fake.plan(**change)))
    with pytest.raises(RunError, match=said):
        read_sweep(sweep)


def test_damaged_files_are_named(sweep: Path) -> None:
    evaluation = sweep / "runs/identity/seed-1/evaluation.json"
    evaluation.write_text('{"figures": {}}')
    (run,) = [run for run in read_sweep(sweep).runs if run.trouble]
    assert run.key == "identity/seed-1"  # the others keep their results
    assert "identity/seed-1/evaluation.json: expected figures with a top1" in str(run.trouble)
    evaluation.unlink()
    journal(sweep, '{"event": "started"}')
    with pytest.raises(RunError, match=r"journal.jsonl, line 1: expected an event with its time"):
        read_sweep(sweep)
    (sweep / "plan.json").write_text("{")
    with pytest.raises(RunError, match=r"plan.json: not valid JSON"):
        read_sweep(sweep)
    with pytest.raises(RunError, match="expected a sweep's folder"):
        read_sweep(sweep / "runs")
