"""The command line, run in this process: commands, flags, help. Messages of mistakes are in test_messages."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metaformer.cli.app import app, main
from metaformer.cli.flags import ALIASES, leaves, nested, with_current_flags
from metaformer.cli.train import default_folder
from metaformer.errors import InputError
from metaformer.inference.inputs import expand
from metaformer.recipe import OptimizerConfig, Recipe
from metaformer.run.recipes import assemble_recipe
from metaformer.zoo.catalogue import CATALOGUE, find

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["--img-size", "32", "--stem-stride", "4", "--augmentation.policy", "none", "--batch-size", "6"]
ONCE = [*SMALL, "--epochs", "1"]


def noisy_images(folder: Path, per_class: int = 3) -> Path:
    """Two classes of noisy images."""
    rng = np.random.default_rng(0)
    for name, color in {"dark": 60, "light": 190}.items():
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = np.clip(color + rng.integers(-50, 50, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noisy_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A finished run of a published model."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--data", str(images), "--out", str(folder), *ONCE]) == 0
    return folder


def run_command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command, the latter without line breaks."""
    capsys.readouterr()
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, " ".join(captured.err.replace("│", " ").split())


# ---- a run from training to report -----------------------------------------------------------------------------------


def test_train_resume_eval_predict_report(run: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads((run / "config.json").read_text())["command"].startswith("metaformer train --data")

    status, out, _ = run_command(capsys, "train", "--resume", "--out", str(run))
    assert status == 0
    assert "already finished" in out

    status, out, _ = run_command(capsys, "eval", str(run), "--json")
    assert status == 0
    assert json.loads(out)["metrics"]["top1"] == json.loads((run / "evaluation.json").read_text())["metrics"]["top1"]

    status, out, _ = run_command(capsys, "predict", "--weights", str(run), str(images / "dark"), "--json")
    assert status == 0
    answers = json.loads(out)
    assert [Path(a["file"]).name for a in answers] == ["0.png", "1.png", "2.png"]
    assert {score["class"] for score in answers[0]["top"]} == {"dark", "light"}
    assert sum(score["probability"] for score in answers[0]["top"]) == pytest.approx(1, abs=1e-4)

    status, out, _ = run_command(
        capsys, "predict", "--weights", str(run / "last.safetensors"), str(images / "dark" / "0.png")
    )
    assert status == 0
    assert "dark" in out
    assert "%" in out

    (run / "report.html").unlink()
    status, out, _ = run_command(capsys, "report", str(run))
    assert (status, out.strip()) == (0, str(run / "report.html"))
    assert (run / "report.html").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_disk_behind_the_output_is_reported() -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "metaformer", "models", "--format", "json"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "error: cannot write the output: No space left on device\n",
    )


def test_sigterm_saves_and_prints_how_to_resume(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", "--data", str(images), "--out", str(folder), *SMALL, "--epochs", "500"]
    child = subprocess.Popen(
        [sys.executable, "-m", "metaformer", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    limit = time.monotonic() + 120
    while not (folder / "metrics.csv").exists() and time.monotonic() < limit:
        assert child.poll() is None, child.communicate()
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, printed = child.communicate(timeout=60)
    assert child.returncode == 143
    assert b"--resume" in printed
    assert b"Traceback" not in printed
    assert (folder / "checkpoint.safetensors").exists()


# ---- bad inputs and full disks ---------------------------------------------------------------------------------------


def test_bad_images_are_refused_by_name_or_skipped_and_counted(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = noisy_images(tmp_path / "data")
    whole = (data / "dark" / "0.png").read_bytes()
    (data / "dark" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (data / "light" / "text.jpg").write_text("no image")
    words = ["train", "--data", str(data), "--out", str(tmp_path / "run"), *ONCE]
    status, _, error = run_command(capsys, *words)
    assert status == 2
    assert "2 of 8 image files" in error
    assert str(data / "dark" / "cut.png") in error
    assert not (tmp_path / "run").exists()
    status, out, error = run_command(capsys, *words, "--on-bad-image", "skip")
    assert status == 0, error
    assert "2 files left out" in out
    skipped = json.loads((tmp_path / "run" / "config.json").read_text())["data"]["skipped"]
    assert {Path(bad["path"]).name for bad in skipped} == {"cut.png", "text.jpg"}

    words = ["predict", "--weights", str(run), str(data), "--json"]
    status, _, error = run_command(capsys, *words)
    assert status == 2
    assert "cut.png" in error
    status, out, error = run_command(capsys, *words, "--on-bad-image", "skip")
    assert status == 0
    assert len(json.loads(out)) == 6
    assert "2 files skipped" in error


def test_a_loss_that_is_not_finite_stops_the_run(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, error = run_command(
        capsys, "train", "--data", str(images), "--out", str(tmp_path / "run"), *SMALL, "--epochs", "3",
        "--optimizer.name", "sgd", "--lr", "1e30",
    )  # fmt: skip
    assert status == 2
    assert "training diverged: " in error
    assert "not finite" in error or "the loss is" in error
    assert ", update " in error


def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from metaformer.training.checkpoint import read_tree

    states = 0
    sync = os.fsync

    def full(descriptor: int) -> None:
        nonlocal states
        if "checkpoint" in os.readlink(f"/proc/self/fd/{descriptor}"):
            states += 1
            if states > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to see which file is flushed")
    monkeypatch.setattr(os, "fsync", full)
    status, _, error = run_command(
        capsys, "train", "--data", str(images), "--out", str(tmp_path / "run"), *ONCE, "--machine.save-steps", "1",
    )  # fmt: skip
    assert status == 2
    assert "No space left" in error
    assert read_tree(tmp_path / "run" / "checkpoint.safetensors")["state"]["update"] == 1


# ---- flags -----------------------------------------------------------------------------------------------------------


def parsed(*words: str) -> dict[str, Any]:
    """The flags of a ``train`` command line as a nested mapping."""
    _, bound, _ = app.parse_args(["train", *words], exit_on_error=False, print_error=False)
    own = {"out", "recipe", "config", "resume", "overwrite"}
    return nested({name: value for name, value in bound.arguments.items() if name not in own})


EXAMPLES: dict[type, list[str]] = {int: ["3"], float: ["0.5"], str: ["word"], bool: []}


def example(annotation: Any) -> tuple[list[str], Any]:
    """Words for a flag of this type, and their value."""
    from typing import Literal, get_args, get_origin

    options = [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) is Literal:
        return [str(options[-1])], options[-1]
    if get_origin(annotation) is tuple:
        inner = [a for a in get_args(annotation) if a is not Ellipsis]
        return (EXAMPLES[inner[0]] * 2, (inner[0](EXAMPLES[inner[0]][0]),) * 2)
    if annotation in EXAMPLES:
        return EXAMPLES[annotation], True if annotation is bool else annotation(EXAMPLES[annotation][0])
    return example(options[0])


@pytest.mark.parametrize("field", list(leaves(Recipe)), ids=lambda field: field.path)
def test_every_field_of_a_recipe_is_a_flag_with_help(field: Any) -> None:
    assert field.help.endswith((".", ")", "]")), f"{field.path} has no docstring"
    words, value = example(field.annotation)
    expected = nested({field.parameter: value})
    assert parsed(field.dotted, *words) == expected
    assert parsed("--" + field.path, *words) == expected, "underscores work like hyphens"
    if field.path in ALIASES:
        assert parsed(ALIASES[field.path], *words) == expected


def test_short_flags_belong_to_fields() -> None:
    assert set(ALIASES) <= {field.path for field in leaves(Recipe)}


def test_mixers_are_given_as_a_list_or_repeated() -> None:
    expected = {"model": {"mixers": ("pooling(kernel=5)", "attention")}}
    assert parsed("--mixers", "pooling(kernel=5)", "attention") == expected
    assert parsed("--mixers", "pooling(kernel=5)", "--mixers", "attention") == expected


def test_only_flags_that_were_given_are_passed() -> None:
    assert parsed("--lr", "1e-3") == {"optimizer": {"lr": 1e-3}}
    assert parsed("--no-pretrained") == {"model": {"pretrained": False}}
    assert parsed("--optimizer.clip-grad", "none") == {"optimizer": {"clip_grad": None}}


def test_former_flags_are_accepted_with_one_warning(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--optimisation.optimiser", "sgd", "--optimisation.lr=0.5", "--optimisation.no-decay-everything"]
    current, former = with_current_flags(["train", *words, "--optimizer.lr", "1", "--out", "a.b/--c"])
    assert current == [
        "train", "--optimizer.name", "sgd", "--optimizer.lr=0.5", "--optimizer.no-decay-everything",
        "--optimizer.lr", "1", "--out", "a.b/--c",
    ]  # fmt: skip
    assert list(former.items())[:2] == [
        ("--optimisation.optimiser", "--optimizer.name"),
        ("--optimisation.lr", "--optimizer.lr"),
    ]
    status, _, error = run_command(capsys, "train", "--optimisation.epochs", "0", "--out", str(tmp_path / "run"))
    assert status == 2
    assert error == (
        "warning: --optimisation.epochs is now --optimizer.epochs; old names are still accepted "
        "error: optimizer.epochs: expected at least 1, got 0"
    )


def test_the_default_folder_names_model_and_data() -> None:
    folder = default_folder(assemble_recipe(None, overrides={"data": {"source": "some/where/cats/"}}))
    assert folder == Path("runs/poolformer_s12-cats")
    assert default_folder(Recipe(optimizer=OptimizerConfig())) == Path("runs/poolformer_s12-digits")


# ---- models, files, help ---------------------------------------------------------------------------------------------


def test_models_are_listed_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run_command(capsys, "models", "--format", "json")
    rows = json.loads(out)
    assert [row["name"] for row in rows] == list(CATALOGUE)
    assert all(row["parameters"] == CATALOGUE[row["name"]].parameters for row in rows)
    _, out, _ = run_command(capsys, "models", "poolformer_*", "--format", "csv")
    assert len(out.splitlines()) == 1 + 5
    _, out, _ = run_command(capsys, "models", "--family", "caformer", "--pretrained", "--format", "markdown")
    assert "| caformer_s18 |" in out
    assert "poolformer" not in out
    status, out, _ = run_command(capsys, "models", "poolformer_s12")
    assert status == 0
    assert "poolformer_s12" in out


def test_models_compares_counted_with_published_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, error = run_command(capsys, "models", "gmlp_*", "--compare", "--format", "json")
    assert (status, error) == (0, ""), "bars are shown in terminals only"
    small, base = json.loads(out)
    assert (small["name"], small["parameters"], small["differs"]) == (
        "gmlp_s16_224",
        19_422_656,
        ["parameters", "macs"],
    )
    assert small["macs"] < find("gmlp_s16_224").macs * 1e9, "products only"
    assert (base["differs"], base["note"]) == (["macs"], "15.78 G with fvcore's operations for the norms")
    _, out, _ = run_command(capsys, "models", "gmlp_*", "--compare", "--pretrained", "--format", "csv")
    assert len(out.splitlines()) == 1 + 1
    _, out, _ = run_command(capsys, "models", "--compare", "--family", "gmlp", "--format", "markdown")
    assert "| `gmlp_b16_224` | 224 | 73,075,392 | 73 M |" in out
    status, out, error = run_command(
        capsys, "models", "gmlp_s", "--compare", "--plot", str(tmp_path / "new" / "figure")
    )
    assert status == 0
    assert "≠¹" in out
    assert "figure.svg" in error
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["figure.png", "figure.svg"]
    run_command(capsys, "models", "gmlp_s", "--compare", "--plot", str(tmp_path / "only.png"))
    assert [path.name for path in tmp_path.glob("only*")] == ["only.png"]
    status, _, error = run_command(
        capsys, "models", "gmlp_s", "--compare", "--plot", str(tmp_path / "only.png" / "figure.png")
    )
    assert status == 2
    assert "--plot: " in error


def test_files_folders_and_patterns_become_images(images: Path) -> None:
    files = expand([str(images / "light" / "1.png"), str(images), str(images / "*" / "2.png")])
    assert [f"{f.parent.name}/{f.name}" for f in files] == [
        "light/1.png", "dark/0.png", "dark/1.png", "dark/2.png", "light/0.png", "light/2.png",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"Did you mean 'light'\?"):
        expand([str(images / "lihgt")])
    with pytest.raises(InputError, match="no image matches"):
        expand([str(images / "*.bmp")])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from metaformer.cli import main\n"
        "for words in '', 'train', 'eval', 'predict', 'models', 'report', 'ablate', 'bench', 'export', 'data check':\n"
        "    assert main([*words.split(), '--help']) == 0\n"
        "assert main(['models', 'caformer_*']) == 0\n"
        "heavy = {'torch', 'torchvision', 'timm', 'accelerate', 'matplotlib', 'numpy', 'sklearn', 'huggingface_hub'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command", ["", "train", "eval", "predict", "models", "report", "ablate", "bench", "export", "data check"]
)
def test_help_fits_a_terminal_of_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    prose = [line for line in lines if line and line[0].isalpha() and not line.startswith("Usage")]
    # the terminal breaks lines, the source does not: a line is short only where its paragraph ends
    for line, below in pairwise(prose):
        word = below.split()[0]
        assert len(line) + len(word) >= 79 or line.rstrip().endswith("."), line
    assert "``" not in "".join(lines)


def test_completion_can_be_installed(tmp_path: Path) -> None:
    target = tmp_path / "completion"
    assert main(["--install-completion", "--shell", "bash", "--output", str(target)]) == 0
    script = target.read_text()
    assert "--optimizer.lr" in script
    assert "predict" in script


def test_a_closed_pipe_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "metaformer", "models", "--format", "csv"],
        stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert done.returncode == 141
