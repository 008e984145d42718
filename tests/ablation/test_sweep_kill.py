"""A sweep that is killed or asked to stop at any moment and resumed gives what an undisturbed one gives."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_sweep import events, measured, swept

from metaformer.ablation.report.results import read_results

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")

COMMAND = "import sys; from metaformer.cli import main; sys.exit(main(sys.argv[1:]))"
PATIENCE = 120.0


@contextmanager
def ablating(plan: Path, out: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """``metaformer ablate`` in a process group of its own, as a shell starts it."""
    command = [sys.executable, "-c", COMMAND, "ablate", str(plan), "--out", str(out), "--workers", "2", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def waited(until: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> bool:
    """Whether it came true in good time, while the process was alive."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up and (process is None or process.poll() is None):
        if until():
            return True
        time.sleep(0.02)
    return until()


def at_work(out: Path) -> list[Path]:
    """Folders of runs that have saved a state and are not settled."""
    return [path.parent for path in out.glob("runs/*/*/checkpoint.safetensors")]


def offspring(pid: int) -> set[int]:
    """All processes below one."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found, newest = set[int](), {pid}
    while newest:
        newest = {child for child, parent in parents.items() if parent in newest} - found
        found |= newest
    return found


def _parent(process: Path) -> int | None:
    """None for one that is gone, or a zombie."""
    try:
        state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def test_kill_9_in_the_middle_changes_nothing(unbroken: Path, tiny_plan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ablating(tiny_plan, out, "--seeds", "2") as process:
        assert waited(lambda: out.is_dir() and len(at_work(out)) == 2, process)
        assert waited(lambda: bool(events(out, "finished")) and bool(at_work(out)), process)
        workers = offspring(process.pid)
        assert len(workers) >= 3  # two workers and the server they are forked from
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert waited(lambda: not any(_parent(Path("/proc") / str(pid)) for pid in workers))
    finished = {event["run"] for event in events(out, "finished")}
    assert 1 <= len(finished) < 6
    assert "sweep ended" not in [event["event"] for event in events(out)]
    swept(tiny_plan, out, resume=True, seeds=2)
    second = [event["event"] for event in events(out)].index("sweep started", 1)
    assert not finished & {event["run"] for event in events(out)[second:] if event["event"] == "started"}
    assert measured(out) == measured(unbroken)
    assert read_results(out).to_dict() == read_results(unbroken).to_dict()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_request_to_stop_saves_the_runs(
    unbroken: Path, tiny_plan: Path, tmp_path: Path, number: int, status: int
) -> None:
    """Ctrl-C in a terminal reaches the workers too, SIGTERM the sweep alone."""
    out = tmp_path / "out"
    with ablating(tiny_plan, out, "--seeds", "1") as process:
        assert waited(lambda: bool(at_work(out)), process)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, printed = process.communicate(timeout=PATIENCE)
        assert process.returncode == status
    assert printed == "stopped: all runs have saved their states; continue with --resume\n"
    stopped = events(out, "stopped")
    assert stopped
    assert [event["event"] for event in events(out)][-1] == "sweep ended"
    for event in stopped:
        assert (out / "runs" / event["run"] / "checkpoint.safetensors").is_file()
    swept(tiny_plan, out, resume=True)
    assert measured(out) == {run: found for run, found in measured(unbroken).items() if run.endswith("seed-0")}
