"""Only what is lost of a sweep is trained again; what goes wrong in one run costs no other one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_sweep import events, measured, swept, written_plan

from metaformer.ablation.ray_executor import RayExecutor
from metaformer.ablation.report.files import read_sweep
from metaformer.ablation.report.page import write_sweep_page
from metaformer.errors import RunError

Refused = Callable[..., str]
CRASH = """
class Crash(Trouble):
    def trouble(self):
        raise RuntimeError("my mixer is broken")


def plan():"""


def started(folder: Path) -> list[str]:
    """Runs that were started in the last session."""
    found = events(folder)
    last = max(i for i, event in enumerate(found) if event["event"] == "sweep started")
    return [event["run"] for event in found[last:] if event["event"] == "started"]


@pytest.mark.parametrize("garbage", [None, "garb{"])
def test_without_its_journal_a_sweep_knows_its_finished_runs(again: Path, tiny_plan: Path, garbage: str | None) -> None:
    journal = again / "journal.jsonl"
    journal.unlink() if garbage is None else journal.write_text(garbage)
    assert "6 of them done already" in swept(tiny_plan, again, resume=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evaluation.json", None),
        ("evaluation.json", "{"),
        ("evaluation.json", '{"task": "classification", "metrics": {}, "classes": [], "images": 0}'),
        ("config.json", None),
        ("config.json", "{"),
    ],
)
def test_a_run_that_lost_a_file_is_trained_again_alone(
    again: Path, unbroken: Path, tiny_plan: Path, name: str, content: str | None
) -> None:
    path = again / "runs" / "identity" / "seed-1" / name
    path.unlink() if content is None else path.write_text(content)
    run = next(run for run in read_sweep(again).runs if run.key == "identity/seed-1")
    assert run.value is None or name == "config.json"
    text = write_sweep_page(again).read_text()
    if content is not None:
        assert "identity/seed-1 has no result" in text
        assert "trains it again" in text
    swept(tiny_plan, again, resume=True, workers=1)
    assert started(again) == ["identity/seed-1"]
    assert measured(again) == measured(unbroken)


def test_code_that_raises_is_reported_once_with_its_line_and_costs_no_other_run(
    tmp_path: Path, unbroken: Path, refused: Refused
) -> None:
    plan = written_plan(tmp_path, 'Change(name="crash", mixers=Crash), Change(name="identity", mixers="identity"), ')
    plan.write_text(plan.read_text().replace("\ndef plan():", CRASH))
    message = refused(plan, tmp_path / "out", workers=1)
    assert "crash/seed-0: RuntimeError: my mixer is broken (tiny.py, line " in message
    assert "memory" not in message
    assert len(events(tmp_path / "out", "crashed")) == 1
    assert measured(tmp_path / "out") == {
        f"{name}/seed-0": measured(unbroken)[f"{name}/seed-0"] for name in ("base", "identity")
    }
    assert "my mixer is broken" in write_sweep_page(tmp_path / "out").read_text()


def test_nobody_at_the_address_leaves_nothing_behind(
    tiny_plan: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_cluster(*_: object, **__: object) -> None:
        raise RunError("no cluster there")

    monkeypatch.setattr(RayExecutor, "__init__", no_cluster)
    assert refused(tiny_plan, tmp_path / "out", ray="nonsense:1") == "no cluster there"
    swept_before = [path.name for path in (tmp_path / "out").iterdir()]
    assert swept_before == [".lock"]


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    tiny_plan: Path, tmp_path: Path, refused: Refused
) -> None:
    message = refused(tiny_plan, tmp_path / "out", changed={"machine": {"device": "mps"}})
    assert "expected a device of this machine" in message
    assert not (tmp_path / "out").exists()


def test_a_change_that_writes_out_the_default_is_noted(again: Path, tiny_plan: Path, tmp_path: Path) -> None:
    plan = written_plan(tmp_path, 'Change(name="same", mixers="pooling(kernel=3)"), ', epochs=1)
    printed = swept(plan, tmp_path / "out", workers=1)
    assert "'same' writes out defaults of the base" in printed
    assert "same" in json.loads((tmp_path / "out" / "plan.json").read_text())["notes"][0]


def test_another_base_has_none_of_the_plans_published_numbers(tmp_path: Path) -> None:
    plan = written_plan(tmp_path, 'Change(name="identity", mixers="identity", published=74.3), ', epochs=1)
    swept(plan, tmp_path / "out", workers=2, changed={"model": {"name": "poolformerv2_s12"}})
    stored = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert stored["base"] == "poolformerv2_s12"
    assert [row["published"] for row in stored["variants"]] == [None, None]
