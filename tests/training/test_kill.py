"""A run that is killed at any instant, or asked to stop, and resumed ends with the bits of the unbroken run."""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from children import events_of, start
from digits_run import run
from same_run import expect_same_run

from metaformer.training.checkpoint import read_tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork and no SIGKILL")


def finished(folder: Path, resume: bool = False) -> None:
    process, events = start(run, folder, resume, None, None)
    assert list(events_of(events))[-1] == "done"
    process.join()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    finished(folder)
    return folder


def signalled(
    folder: Path, number: int, parts: int, *, resume: bool = False, delay: float = 0.0, hangs: bool = False
) -> tuple[list[Any], int | None]:
    """Start or resume, send signal ``number`` ``delay`` seconds after ``parts`` micro-batches have begun; what was
    sent, and the exit code. With ``hangs`` the process waits inside the last of them, else it runs on meanwhile."""
    process, events = start(run, folder, resume, None, parts if hangs else None)
    sent: list[Any] = []
    for event in events_of(events):
        sent.append(event)
        if event == "part" and sent.count("part") == parts:
            time.sleep(delay)
            os.kill(process.pid, number)  # type: ignore[arg-type]
    process.join()
    return sent, process.exitcode


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_at_random_points_changes_nothing(unbroken: Path, tmp_path: Path, seed: int) -> None:
    """First inside a window whose first micro-batch is behind it, then at any moment, saving included, then inside
    the first micro-batch of a window."""
    moments = random.Random(seed)
    kills: list[dict[str, Any]] = [
        {"parts": moments.choice([2, 4, 8]), "hangs": True},
        {"parts": moments.randint(1, 5), "delay": moments.random() * 0.1, "resume": True},
        {"parts": moments.choice([1, 3]), "hangs": True, "resume": True},
    ]
    for kill in kills:
        sent, exit_code = signalled(tmp_path, signal.SIGKILL, **kill)
        assert exit_code == -signal.SIGKILL
        assert sent.count("part") == kill["parts"] or not kill.get("hangs")
        assert "done" not in sent
    finished(tmp_path, resume=True)
    expect_same_run(unbroken, tmp_path, epochs=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_request_to_stop_saves_and_resumes_exactly(unbroken: Path, tmp_path: Path, number: int) -> None:
    sent, exit_code = signalled(tmp_path, number, 3, hangs=True)
    assert exit_code == 0
    # the window of parts 3 and 4 is finished first
    assert sent == ["part"] * 4 + ["checkpoint.safetensors", 128 + number]
    assert read_tree(tmp_path / "checkpoint.safetensors")["state"]["update"] == 2
    finished(tmp_path, resume=True)
    expect_same_run(unbroken, tmp_path, epochs=2)


@pytest.mark.parametrize("room", [200, 20_000, 100_000])
def test_a_full_disk_stops_the_run_and_leaves_the_earlier_states(unbroken: Path, tmp_path: Path, room: int) -> None:
    """Little room stops the event file or the metrics, more the weights, much the state; none loses a state."""
    process, events = start(run, tmp_path, False, room, None)
    sent = list(events_of(events))
    process.join()
    assert process.exitcode == 0
    assert "cannot be written (File too large)" in sent[-1]
    assert read_tree(tmp_path / "checkpoint.safetensors")["state"]["update"] == 6
    assert read_tree(tmp_path / "checkpoint.previous.safetensors")["state"]["update"] == 3
    assert not list(tmp_path.glob(".*"))
    finished(tmp_path, resume=True)
    expect_same_run(unbroken, tmp_path, epochs=2)
