"""A sweep's folder can be read at any time: what is not there yet is missing, what is damaged is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fabricated_sweep as fake
import pytest

from metaformer.ablation.folder import FORMAT, JournalEvent, SweepFolder, SweepPlan
from metaformer.ablation.plan import DataFacts, variants
from metaformer.ablation.plan_files import read_plan
from metaformer.ablation.report.files import read_sweep
from metaformer.errors import RunError
from metaformer.run.recipes import shipped_plans


def journal(folder: Path, *events: dict[str, object] | str) -> None:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    (folder / "journal.jsonl").write_text("\n".join(lines))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return fake.sweep_folder(tmp_path / "sweep")


@pytest.mark.parametrize("name", shipped_plans())
def test_a_plan_that_is_written_is_read_as_it_was(name: str, tmp_path: Path) -> None:
    facts = DataFacts(classes=fake.CLASSES, channels=1, side=8, train=1437, val=360, source="digits")
    found, notes = variants(read_plan(shipped_plans()[name], 8), facts)
    plan = fake.plan(found, data=facts, notes=tuple(notes), chance=None, metric=fake.LOSS)
    folder = SweepFolder(tmp_path)
    folder.write_plan(plan)
    assert folder.read_plan() == plan
    assert SweepPlan.from_dict(plan.to_dict()) == plan


def test_events_that_are_logged_are_read_as_they_were(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    folder.log("sweep started", workers=2, where="this machine")
    folder.log("died", run="base/seed-0", seconds=1.23456, reason="killed")
    first, second = folder.read_journal()
    assert first == JournalEvent(time=first.time, event="sweep started", workers=2, where="this machine")
    assert (second.run, second.seconds, second.reason, second.attempt) == ("base/seed-0", 1.235, "killed", None)
    for event in (first, second):
        assert JournalEvent.from_dict(event.to_dict()) == event
        assert None not in event.to_dict().values()


def test_every_planned_run_is_there_in_the_plans_order(sweep: Path) -> None:
    files = read_sweep(sweep)
    assert files.plan == fake.plan()
    assert [run.key for run in files.runs[:4]] == [
        "poolformer/seed-0", "poolformer/seed-1", "poolformer/seed-2", "identity/seed-0",
    ]  # fmt: skip
    assert [run.value for run in files.of_variant["identity"]] == pytest.approx([93.0, 94.2, 93.6])
    assert files.done == 18


def test_a_run_that_diverged_counts_as_chance(sweep: Path) -> None:
    diverged, whole, _ = read_sweep(sweep).of_variant["no residual"]
    assert (diverged.state, diverged.value) == ("diverged", 10.0)
    assert diverged.diverged == "the loss is inf in epoch 1, update 3 of 40"
    assert (whole.state, whole.value) == ("finished", 20.0)


def test_runs_without_a_result_are_missing(tmp_path: Path) -> None:
    folder = fake.sweep_folder(tmp_path, results=fake.RESULTS | {"identity": (0.9, None, 0.9)})
    (folder / "runs/identity/seed-2/evaluation.json").unlink()
    first, second, third = read_sweep(folder).of_variant["identity"]
    assert [run.state for run in (first, second, third)] == ["finished", "not finished", "not finished"]
    assert second.files is None
    assert third.files is not None


@pytest.mark.parametrize("word", ["diverged", "broke down"])  # the latter is version 0.1.0's
def test_the_last_event_of_a_run_counts(sweep: Path, word: str) -> None:
    run = {"run": "poolformer/seed-0"}
    diverged = {"time": 2.0, "event": word, "reason": "nan", **run}
    journal(sweep, {"time": 1.0, "event": "started", **run}, diverged)
    assert read_sweep(sweep).runs[0].diverged == "nan"
    journal(sweep, diverged, {"time": 3.0, "event": "finished", "seconds": 5.0, **run})
    assert read_sweep(sweep).runs[0].state == "finished"


def test_sessions_last_to_their_end_or_to_the_last_event(sweep: Path) -> None:
    journal(
        sweep,
        {"time": 100.0, "event": "sweep started", "workers": 2, "where": "this machine"},
        {"time": 160.0, "event": "started", "run": "poolformer/seed-0", "attempt": 1},
        '{"time": 170.0, "event": "fini',
        {"time": 1000.0, "event": "sweep started", "workers": 3, "where": "Ray"},
        {"time": 1050.0, "event": "finished", "run": "poolformer/seed-0", "seconds": 48.0},
        {"time": 1060.0, "event": "diverged", "run": "identity/seed-0", "seconds": 2.0},
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
    assert files.done == 16  # the two that diverged have no evaluation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": FORMAT + 1}, "expected format 2 or older, got 3. A newer metaformer wrote it; update this one"),
        ({"variants": []}, r"variants: expected at least 1, got \(\); the file is damaged"),
        ({"base": "nobody"}, "base: expected one of PoolFormer, .*, got 'nobody'"),
        ({"data": {"classes": []}}, "data.channels: this field is required"),
        ({"variants": [fake.VARIANTS[0].to_dict()] * 2}, "variants: expected every name once, got 'PoolFormer'"),
        (
            {"variants": [fake.VARIANTS[0].to_dict(), {"name": "no slug"}]},
            r"variants\[1\].slug: this field is required",
        ),
        ({"seeds": ["0"]}, "seeds: expected a list of integers"),
        ({"metrik": 1}, "metrik: no such field. Did you mean 'metric'"),
    ],
)
def test_a_damaged_plan_is_refused(sweep: Path, change: dict[str, Any], message: str) -> None:
    (sweep / "plan.json").write_text(json.dumps(fake.plan().to_dict() | change))
    with pytest.raises(RunError, match=rf"plan.json: {message}"):
        read_sweep(sweep)


def test_damaged_files_are_named(sweep: Path) -> None:
    evaluation = sweep / "runs/identity/seed-1/evaluation.json"
    content = json.loads(evaluation.read_text())
    evaluation.write_text(json.dumps(content | {"metrics": {}}))
    (run,) = [run for run in read_sweep(sweep).runs if run.problem]
    assert run.key == "identity/seed-1"  # the others keep their results
    assert "identity/seed-1/evaluation.json: expected metrics with a top1" in str(run.problem)
    evaluation.unlink()
    journal(sweep, '{"event": "started"}')
    with pytest.raises(RunError, match=r"journal.jsonl, line 1: time: this field is required; the file is damaged"):
        read_sweep(sweep)
    (sweep / "plan.json").write_text("{")
    with pytest.raises(RunError, match=r"plan.json: not valid JSON"):
        read_sweep(sweep)
    with pytest.raises(RunError, match="expected a sweep's folder"):
        read_sweep(sweep / "runs")
