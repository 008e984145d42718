"""Runs ``kernels_run.py`` in a process of its own, where Triton is its interpreter; other tests keep the Triton they
have. On a machine with a GPU the same cases run on it (``-m gpu``)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

FILE = Path(__file__).with_name("kernels_run.py")


def passes(part: str, **environment: str) -> None:
    """All tests whose names begin so pass, and there are some."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(FILE),
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-k",
        f"test_{part}",
    ]
    inherited = {key: value for key, value in os.environ.items() if key not in ("TRITON_INTERPRET", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        command, env=inherited | environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("part", ["pooling", "mlp"])
def test_kernels_in_the_interpreter(part: str) -> None:
    passes(part, TRITON_INTERPRET="1", KERNELS_ON="cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("part", ["pooling", "mlp"])
def test_kernels_on_the_gpu(part: str) -> None:
    passes(part, KERNELS_ON="cuda")
