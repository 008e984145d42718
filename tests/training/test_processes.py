"""Two processes that share each batch do what one process does with all of it."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from children import events_of, start
from shared_run import one_of, train

from metaformer.weights.safetensors_io import read_tensors

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


def together(folder: Path, breaks: bool = False, world: int = 2) -> list[Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    started = [start(one_of, folder, rank, world, port, breaks) for rank in range(world)]
    sent = [list(events_of(events)) for _, events in started]
    for process, _ in started:
        process.join()
        assert process.exitcode == 0
    return [one[0] for one in sent]


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Losses and weights to 1e-5; micro-batches of different size, clipping and averaging included."""
    (tmp_path / "one").mkdir()
    alone = train(tmp_path / "one")
    first, second = together(tmp_path / "two")
    assert len(alone) == 4 * 2 + 3
    assert first == pytest.approx(alone, rel=1e-5)
    assert second == first[-3:]  # only the main process has observers, all know the metrics
    expected, _ = read_tensors(tmp_path / "one" / "weights0.safetensors")
    for rank in range(2):
        weights, _ = read_tensors(tmp_path / "two" / f"weights{rank}.safetensors")
        for name, tensor in expected.items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_bad_number_in_one_process_stops_all(tmp_path: Path) -> None:
    errors = together(tmp_path / "two", breaks=True)
    assert all("the loss is nan in epoch 1, update 1 of 8" in error for error in errors)


@pytest.mark.slow
def test_torchrun_starts_the_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = Path(__file__).with_name("shared_run.py")
    subprocess.run([*command, str(script), str(tmp_path)], check=True, capture_output=True, timeout=300)
    (tmp_path / "one").mkdir()
    train(tmp_path / "one")
    expected, _ = read_tensors(tmp_path / "one" / "weights0.safetensors")
    weights, _ = read_tensors(tmp_path / "weights1.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-5, atol=1e-6)
