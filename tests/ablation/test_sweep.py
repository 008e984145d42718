"""A sweep trains every variant with every seed once, whatever happens, and refuses what would mix results up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_sweep import events, measured, swept, written_plan

from metaformer.ablation.folder import Event, SweepFolder
from metaformer.ablation.lock import locked
from metaformer.ablation.report.files import read_sweep
from metaformer.errors import RunError

Refused = Callable[..., str]
TROUBLE = (
    'Change(name="once", mixers=Once), Change(name="void", mixers=Void), Change(name="always", mixers=Always), '
    'Change(name="identity", mixers="identity"), '
)


def settled(folder: Path) -> set[str]:
    sweep = SweepFolder(folder)
    return sweep.settled(sweep.read_plan())


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_folder_holds_ordinary_runs_and_no_states(unbroken: Path) -> None:
    assert {path.name for path in unbroken.iterdir()} == {".lock", "plan.json", "journal.jsonl", "runs"}
    runs = {path.relative_to(unbroken / "runs").as_posix() for path in unbroken.glob("runs/*/*")}
    assert runs == {f"{name}/seed-{seed}" for name in ("base", "identity", "wide-pool") for seed in (0, 1)}
    for run in runs:
        names = {path.name for path in (unbroken / "runs" / run).iterdir()}
        assert {"config.json", "metrics.csv", "evaluation.json", "last.safetensors"} <= names
        assert not [name for name in names if name.startswith("checkpoint")]


def test_the_journal_tells_what_happened_the_whole_table_seed_by_seed(unbroken: Path) -> None:
    first, *middle, last = events(unbroken)
    assert (first["event"], first["workers"], first["where"]) == ("sweep started", 2, "this machine")
    assert last["event"] == "sweep ended"
    assert last["seconds"] > 0
    runs = [f"{name}/seed-{seed}" for seed in (0, 1) for name in ("base", "identity", "wide-pool")]
    assert [(e["run"], e["attempt"]) for e in middle if e["event"] == "started"] == [(run, 1) for run in runs]
    assert sorted(e["run"] for e in middle if e["event"] == "finished") == sorted(runs)
    assert len(middle) == 2 * len(runs)
    assert sum(session.workers for session in read_sweep(unbroken).sessions) == 2


def test_finished_runs_are_not_run_again(again: Path, tiny_plan: Path) -> None:
    before = files(again)
    printed = swept(tiny_plan, again, resume=True)  # one seed is asked for, the folder's two are kept
    assert "6 runs, 6 of them done already" in printed
    assert json.loads((again / "plan.json").read_text())["seeds"] == [0, 1]
    assert {**files(again), "plan.json": b""} == {**before, "plan.json": b""}


def test_variants_and_seeds_are_added_and_one_worker_finds_what_two_find(
    unbroken: Path, tiny_plan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    swept(tiny_plan, out, workers=1, only=["identity"])
    assert {event["run"] for event in events(out, "finished")} == {"base/seed-0", "identity/seed-0"}
    swept(tiny_plan, out, workers=1, seeds=2, resume=True)
    assert [event["event"] for event in events(out)].count("started") == 6
    assert measured(out) == measured(unbroken)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("lr=5e-3", "lr=4e-3", r"'base' was started with recipe.optimizer.lr = 0.005, now it is 0.004"),
        ("kernel=5", "kernel=7", r"'wide pool' was started with spec.stages[0].mixer.args.kernel = 5, now it is 7"),
        ('mixers="identity"', 'stages={"mlp": None}', r"'identity' was started with spec.stages[0].m"),
        ('name="identity"', 'name="nothing"', r"started with 'identity', which the plan lacks now"),
    ],
)
def test_a_changed_plan_is_refused(
    again: Path, tmp_path: Path, refused: Refused, old: str, new: str, named: str
) -> None:
    plan = written_plan(tmp_path)
    assert old in plan.read_text()
    plan.write_text(plan.read_text().replace(old, new))
    before = files(again)
    assert named in refused(plan, again, resume=True)
    assert files(again) == before


def test_a_part_that_a_variant_lost_or_gained_is_named(again: Path, tiny_plan: Path, refused: Refused) -> None:
    path = again / "plan.json"
    plan = json.loads(path.read_text())
    plan["variants"][1]["spec"]["stages"][1]["mlp"] = None
    path.write_text(json.dumps(plan))
    message = refused(tiny_plan, again, resume=True)
    assert "'identity' was started with spec.stages[1].mlp = None, now it is {'ratio': 4.0, " in message


def test_other_images_are_refused(again: Path, tiny_plan: Path, tmp_path: Path, refused: Refused) -> None:
    for i in range(12):
        folder = tmp_path / "images" / ("train" if i % 3 else "val") / f"class-{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(folder / f"{i}.png")
    data = {"data": {"source": str(tmp_path / "images")}}
    message = refused(tiny_plan, again, resume=True, changed=data)
    assert "10 classes, the dataset has 2" in message
    assert "--out" in message


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"workers": 0}, {"seeds": -1}, {"workers": -2}])
def test_no_seeds_or_workers_are_refused(
    tiny_plan: Path, tmp_path: Path, refused: Refused, wrong: dict[str, int]
) -> None:
    ((name, value),) = wrong.items()
    assert f"--{name}: expected at least 1, got {value}" in refused(tiny_plan, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_two_sweeps_do_not_write_into_one_folder(again: Path, tiny_plan: Path, refused: Refused) -> None:
    before = files(again)
    with locked(again, "taken"):
        for choice in ({"resume": True}, {"overwrite": True}):
            assert "another sweep is writing here" in refused(tiny_plan, again, seeds=3, **choice)
    assert files(again) == before


def test_a_folder_with_something_in_it_is_left_alone(
    again: Path, tiny_plan: Path, tmp_path: Path, refused: Refused
) -> None:
    before = files(again)
    assert "already contains a sweep" in refused(tiny_plan, again)
    assert "pass one of them" in refused(tiny_plan, again, resume=True, overwrite=True)
    (again / "notes.txt").write_text("mine")
    assert "notes.txt" in refused(tiny_plan, again, overwrite=True)
    (again / "notes.txt").unlink()
    assert files(again) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    assert "contains files that metaformer did not create: thesis.tex" in refused(tiny_plan, tmp_path / "other")
    assert "no sweep to resume" in refused(tiny_plan, tmp_path / "nowhere", resume=True)
    (again / "plan.json").unlink()
    assert "its plan.json is missing" in refused(tiny_plan, again, resume=True)
    assert "its runs are not known and cannot be overwritten" in refused(tiny_plan, again, overwrite=True)
    assert len(list(again.glob("runs/*/*"))) == 6


def test_overwrite_removes_the_sweep_and_nothing_else(again: Path, tiny_plan: Path) -> None:
    own = again / "runs" / "base" / "seed-1" / "notes.txt"
    own.write_text("mine")
    (again / "report.html").touch()
    SweepFolder(again).clear()
    assert own.read_text() == "mine"
    left = {path.relative_to(again).as_posix() for path in again.rglob("*") if path.name != ".lock"}
    assert left == {"runs", "runs/base", "runs/base/seed-1", "runs/base/seed-1/notes.txt"}


def test_overwrite_starts_over(again: Path, tiny_plan: Path, unbroken: Path) -> None:
    swept(tiny_plan, again, overwrite=True, only=["identity"])
    assert measured(again) == {f"{name}/seed-0": measured(unbroken)[f"{name}/seed-0"] for name in ("base", "identity")}
    assert {event["run"] for event in events(again, "finished")} == {"base/seed-0", "identity/seed-0"}


def test_a_line_truncated_by_a_kill_is_dropped(again: Path) -> None:
    journal = again / "journal.jsonl"
    whole = journal.read_text()
    journal.write_text(whole + '{"time": 1.0, "event": "fini')
    SweepFolder(again).log("sweep started", workers=1, where="here")
    assert journal.read_text().startswith(whole)
    assert [event["event"] for event in events(again)][-2:] == ["sweep ended", "sweep started"]
    assert len(read_sweep(again).sessions) == 2


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep with a worker that dies once, one that always does, and a variant that diverges; how it ended."""
    folder = tmp_path_factory.mktemp("troubled")
    with pytest.raises(RunError) as caught:
        swept(written_plan(folder, TROUBLE), folder / "out")
    return folder / "out", str(caught.value)


def test_a_dying_worker_is_replaced_and_its_run_goes_on(troubled: tuple[Path, str]) -> None:
    folder, _ = troubled
    found = [(e["event"], e.get("attempt")) for e in events(folder) if e.get("run") == "once/seed-0"]
    assert found == [("started", 1), ("died", None), ("started", 2), ("finished", None)]
    (death,) = [event for event in events(folder, "died") if event["run"] == "once/seed-0"]
    assert "killed by SIGKILL" in death["reason"]
    assert measured(folder)["once/seed-0"] == measured(folder)["identity/seed-0"]


def test_a_run_that_always_dies_is_given_up_and_named(troubled: tuple[Path, str]) -> None:
    folder, message = troubled
    assert [event["event"] for event in events(folder) if event.get("run") == "always/seed-0"] == [
        "started",
        "died",
    ] * 3
    assert "always/seed-0: its process ended with status 7" in message
    assert "once" not in message
    assert set(measured(folder)) == {"base/seed-0", "once/seed-0", "identity/seed-0"}


def test_a_loss_that_is_no_number_is_a_result(troubled: tuple[Path, str]) -> None:
    folder, message = troubled
    (event,) = events(folder, "diverged")
    assert event["run"] == "void/seed-0"
    assert "loss is nan in epoch 1" in event["reason"]
    assert "void" not in message
    assert "void/seed-0" in settled(folder)
    (run,) = [run for run in read_sweep(folder).runs if run.key == "void/seed-0"]
    assert run.state == "diverged"
    assert run.value == 10.0  # guessing among ten digits


def test_a_full_disk_is_reported_and_costs_no_finished_run(unbroken: Path, tmp_path: Path, refused: Refused) -> None:
    """No file of the worker may grow any more in the middle of its second run."""
    plan, out = written_plan(tmp_path, 'Change(name="full", mixers=Full), '), tmp_path / "out"
    (tmp_path / "full").touch()
    message = refused(plan, out, workers=1)
    assert "full/seed-0" in message
    assert "cannot be written (File too large)" in message
    assert "--resume" in message
    assert settled(out) == {"base/seed-0"}
    (tmp_path / "full").unlink()
    swept(plan, out, resume=True, workers=1)
    found, expected = measured(out), measured(unbroken)
    assert found == {"base/seed-0": expected["base/seed-0"], "full/seed-0": expected["identity/seed-0"]}
    assert [event["run"] for event in events(out, "started")] == ["base/seed-0", "full/seed-0", "full/seed-0"]


def test_a_run_whose_end_was_not_logged_is_not_trained_again(
    unbroken: Path, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    """The journal's disk is full at the moment a run has come to its end: its state must still be there."""
    out, log = tmp_path / "out", SweepFolder.log

    def full(self: SweepFolder, event: Event, **fields: Any) -> None:
        if event in ("finished", "sweep ended"):
            raise RunError("journal.jsonl cannot be written: No space left on device")
        log(self, event, **fields)

    monkeypatch.setattr(SweepFolder, "log", full)
    assert "No space left" in refused(tiny_plan, out, workers=1, only=["identity"])
    monkeypatch.undo()
    run = out / "runs" / "base" / "seed-0"
    assert (run / "checkpoint.safetensors").is_file()
    evaluated = (run / "evaluation.json").stat().st_mtime_ns
    swept(tiny_plan, out, workers=1, only=["identity"], resume=True)
    assert (run / "evaluation.json").stat().st_mtime_ns == evaluated
    assert not (run / "checkpoint.safetensors").exists()
    assert measured(out) == {f"{name}/seed-0": measured(unbroken)[f"{name}/seed-0"] for name in ("base", "identity")}
