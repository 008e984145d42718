"""Every example runs as its docstring says, in a process of its own, without a network."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

PLANS = {"ablate_your_mixer": r"shift +[\d.]+\sM\b.*[Ss]hift as token mixer"}
"""Examples that `metaformer ablate` runs, and a part of what it prints of each."""
EXPECTED = {
    "classify": r"one\.png (blue|green|red) \d+\.\d%",
    "export": r"compiled +fp32, scores within 1e-4\nexported +torch, compared on 32 images, \(4, 10\) scores",
    "features": r"stage 3: 512 channels, 1/32 .* map \(2, 512, 6, 8\)\none vector an image: \(2, 512\)",
    "your_own_mixer": r"your mixer, then attention +[\d,]+ parameters +\d+\.\d% of unseen digits",
}
"""A part of what each example prints."""


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES} == {*EXPECTED, *PLANS}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_docstring_says_how_to_run_it(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text is not None
    verb = "metaformer ablate" if path.stem in PLANS else "python"
    assert f"{verb} examples/{path.name}" in text


def run(command: list[str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A process of its own, without a network."""
    offline = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=offline, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize("name", PLANS)
def test_plan_is_trained_by_workers(name: str, tmp_path: Path) -> None:
    """As its docstring says, but a single epoch with a single seed, and from another folder."""
    path = ROOT / "examples" / f"{name}.py"
    words = re.search(rf"metaformer ablate examples/{path.name} (.+)", path.read_text(encoding="utf-8"))
    assert words is not None
    short = ["--seeds", "1", "--optimizer.epochs", "1", "--optimizer.batch-size", "256"]
    done = run(["-m", "metaformer", "ablate", str(path), *words[1].split(), *short], tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(PLANS[name], done.stdout, re.DOTALL), done.stdout
    sweep = tmp_path / "sweeps" / f"{name}-digits"
    assert sorted(path.name for path in (sweep / "runs").iterdir()) == ["pooling", "shift"]
    assert (sweep / "report.html").is_file()


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem in EXPECTED], ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(tmp_path / "one.png")
    words = {"classify": [str(ROOT / "tests/version_0_1_0/runs/photos"), str(tmp_path / "one.png")]}
    done = run([str(path), *words.get(path.stem, ())])
    assert done.returncode == 0, done.stderr
    assert re.search(EXPECTED[path.stem], done.stdout), done.stdout
    assert "Warning" not in done.stderr, done.stderr
    shares = re.findall(r"(\d+\.\d)% of unseen digits", done.stdout)
    assert all(float(share) > 40 for share in shares), "fifty updates should take it far beyond one digit in ten"
