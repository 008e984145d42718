"""Runs ``kernels_run.py`` in a process of its own: Triton's interpreter must be chosen before Triton is imported.

On a machine with a GPU the same cases run on it (``-m gpu``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

FILE = Path(__file__).with_name("kernels_run.py")


def run_cases(cases: str, **environment: str) -> None:
    """Run the cases whose names contain ``cases``; all must pass."""
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-k", cases]
    inherited = {key: value for key, value in os.environ.items() if key not in ("TRITON_INTERPRET", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(FILE), *options],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("cases", ["whole_block", pytest.param("test", marks=pytest.mark.slow)])
def test_kernels_in_the_interpreter(cases: str) -> None:
    run_cases(cases, TRITON_INTERPRET="1", KERNELS_ON="cpu")


@pytest.mark.gpu
def test_kernels_on_the_gpu() -> None:
    run_cases("test", KERNELS_ON="cuda")
