"""Every example runs as its docstring says, in a process of its own, without a network."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

EXPECTED = {
    "classify": r"class +\d+ +\d\.\d\d%",
    "features": r"stage 3: 512 channels, 1/32 .* map \(2, 512, 6, 8\)\none vector a picture: \(2, 512\)",
    "your_own_mixer": r"your mixer, then attention +[\d,]+ parameters +\d+\.\d% of unseen digits",
}
"""A part of what each example prints."""


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES} == set(EXPECTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_docstring_says_how_to_run_it(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text is not None
    assert f"python examples/{path.name}" in text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path) -> None:
    offline = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=ROOT, env=offline, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(EXPECTED[path.stem], done.stdout), done.stdout
    assert "Warning" not in done.stderr, done.stderr
    shares = re.findall(r"(\d+\.\d)% of unseen digits", done.stdout)
    assert all(float(share) > 40 for share in shares), "fifty updates should take it far beyond one digit in ten"
