"""A fourth task needs a folder and one line: its entry in ``TASKS``. Everything else works with it as it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from brightness.task import true_brightness
from brightness_child import LINE, bright
from PIL import Image

import metaformer
from metaformer.cli.app import main
from metaformer.data.decode import read_image
from metaformer.run.config import RunConfig
from metaformer.run.report.files import read_run
from metaformer.tasks import task as tasks
from metaformer.weights.safetensors_io import read_tensors

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _fourth_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TASKS", tasks.TASKS | LINE)
    tasks.task_named.cache_clear()


@pytest.fixture(scope="module")
def gray_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of many brightnesses."""
    root, rng = tmp_path_factory.mktemp("gray"), np.random.default_rng(0)
    for part, count in (("train", 16), ("val", 6)):
        (root / part).mkdir()
        for i in range(count):
            level = 20 + 210 * i / count
            pixels = np.clip(level + rng.normal(0, 10, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / part / f"{i}.png")
    (root / "brightness.txt").touch()
    return root


def run(*words: str) -> int:
    return main(list(words))


@pytest.fixture(scope="module")
def trained(gray_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "bright"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "TASKS", tasks.TASKS | LINE)
        assert bright(gray_images, out) is not None
    return out


def test_it_trains_and_lower_is_better(trained: Path) -> None:
    config = RunConfig.read(trained)
    assert (config.recipe.task, config.primary) == ("brightness", "mean_error")
    files = read_run(trained)
    assert files.best is not None
    both = [files.metrics.column(name) for name in ("mean_error", "ema_mean_error")]
    assert files.best.value == pytest.approx(min(column.min() for column in both))
    page = (trained / "report.html").read_text()
    assert "Best mean error" in page
    assert "Furthest off" in page


def test_it_is_evaluated(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("eval", str(trained), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((trained / "evaluation.json").read_text())
    assert printed["metrics"] == written["metrics"]
    assert metaformer.evaluate(trained).metrics == written["metrics"]


def test_it_predicts(trained: Path, gray_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = gray_images / "val"
    assert run("predict", str(images), "--weights", str(trained), "--json", "--out", str(tmp_path / "out")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "out" / "brightness.json").read_text()) == printed
    results = metaformer.Predictor(trained)(images)
    assert [result.to_dict() for result in results] == printed
    error = np.mean([abs(result.value - true_brightness(read_image(result.file))) for result in results])
    assert error == pytest.approx(read_run(trained).evaluation.metrics["mean_error"], abs=1e-5)


def test_its_data_is_checked(gray_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "check", str(gray_images)) == 0
    assert "brightness" in capsys.readouterr().out


def test_it_is_exported(trained: Path, tmp_path: Path) -> None:
    result = metaformer.export(trained, tmp_path / "out", format="torch")
    compared = result.info.comparison
    assert compared.after["mean_error"] == pytest.approx(compared.before["mean_error"], abs=1e-5)


def test_a_killed_run_resumes_to_the_same_weights(trained: Path, gray_images: Path, tmp_path: Path) -> None:
    """SIGKILL after the first saved state of the second epoch."""
    out = tmp_path / "killed"
    command = [sys.executable, str(HERE / "brightness_child.py"), str(gray_images), str(out)]
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    child = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-2000:]
    assert not (out / "evaluation.json").exists()
    bright(gray_images, out, resume=True, page=False)
    for name in ("best.safetensors", "last.safetensors"):
        expected, found = read_tensors(trained / name)[0], read_tensors(out / name)[0]
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


PLAN = """
from brightness_child import TINY
from metaformer.ablation import Base, Change, Plan
from metaformer.recipe import Machine, OptimizerConfig, Recipe

def plan(side):
    return Plan(
        name="bright",
        base=Base(spec=TINY),
        recipe=Recipe(
            task="brightness",
            optimizer=OptimizerConfig(epochs=2, batch_size=4, lr=1e-2),
            machine=Machine(device="cpu", threads=1),
        ),
        changes=[Change(name="identity", mixers="identity")],
    )
"""


def test_a_sweep_compares_by_its_metric(gray_images: Path, tmp_path: Path) -> None:
    """In processes of their own, with the line written into a copy of the package."""
    package = shutil.copytree(HERE.parent / "metaformer", tmp_path / "metaformer")
    table = package / "tasks" / "task.py"
    line = f'    "brightness": "{LINE["brightness"]}",\n'
    table.write_text(re.sub(r"(TASKS: dict\[str, str\] = \{\n)", rf"\1{line}", table.read_text(), count=1))
    (tmp_path / "plan.py").write_text(PLAN)
    words = ["ablate", str(tmp_path / "plan.py"), "--data", str(gray_images), "--seeds", "2", "--out", "sweep"]
    paths = os.pathsep.join([str(tmp_path), str(HERE)])
    done = subprocess.run(
        [sys.executable, "-m", "metaformer", *words, "--workers", "1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "sweep" / "table.json").read_text())["results"]
    assert results["metric"]["name"] == "mean_error"
    assert results["metric"]["better"] == "lower"
    assert len(results["variants"]) == 2
    assert "mean error" in done.stdout
    assert "Furthest off" not in (tmp_path / "sweep" / "report.html").read_text()


def test_an_unknown_task_is_refused_with_the_nearest(gray_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--data", str(gray_images), "--task", "brightnes") == 2
    assert "Did you mean 'brightness'" in capsys.readouterr().err


def test_the_documentation_quotes_it() -> None:
    page = (HERE.parent / "docs" / "extending.md").read_text(encoding="utf-8")
    quotes = re.findall(
        r"<!-- not run: quoted from (tests/brightness/\w+\.py) -->\n```python\n(.*?)```", page, re.DOTALL
    )
    assert len(quotes) >= 6
    for name, quote in quotes:
        source = textwrap.dedent((HERE.parent / name).read_text(encoding="utf-8"))
        lines = [line.strip() for line in source.splitlines()]
        wanted = [line.strip() for line in quote.strip().splitlines()]
        starts = [i for i, line in enumerate(lines) if line == wanted[0]]
        assert any(lines[i : i + len(wanted)] == wanted for i in starts), f"{name} has no {wanted[0]!r} as quoted"
