"""Runs ``interpreted.py`` in a process where Triton is its interpreter; other tests keep the Triton they have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

FILE = Path(__file__).with_name("interpreted.py")


@pytest.mark.parametrize("part", ["pooling", "mlp"])
def test_kernels_in_the_interpreter(part: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(FILE),
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-k",
        f"test_{part}",
    ]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    print(done.stdout[-4000:])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
