"""The README is true: its commands and its Python run, its table is the zoo's, its links and its tree exist."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import matplotlib
import pytest
import torch

from metaformer.spec.model import ModelSpec
from metaformer.zoo.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """(reason for not running it, or nothing; text) of each block of code."""
    found = re.findall(r"(?:<!-- not run: (.+?) -->\n)?```(\w+)\n(.*?)```", page, re.DOTALL)
    return [(reason, text) for reason, name, text in found if name == language]


def commands(text: str) -> list[str]:
    """The lines of a block without their comments."""
    lines = (re.sub(r"\s+#.*", "", line) for line in text.splitlines())
    return [line for line in lines if line.strip()]


PYTHON = [
    pytest.param(text, id=f"{page.stem}-{i}")
    for page in PAGES
    for i, (reason, text) in enumerate(blocks(page.read_text(encoding="utf-8"), "python"))
    if not reason
]


@pytest.mark.parametrize("text", PYTHON)
def test_python_blocks_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        exec(compile(text, "README.md", "exec"), {"__name__": "readme"})
    finally:
        torch.set_num_threads(threads)


def test_commands_run_as_printed(tmp_path: Path) -> None:
    """In order and in one folder, with the ``metaformer`` of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    offline = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
    ran = [line for reason, text in blocks(README, "bash") if not reason for line in commands(text)]
    assert any("train" in line for line in ran), "the README shows no training that can be run"
    for line in ran:
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=offline, capture_output=True, text=True, timeout=400, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    for name in ("report.html", "metrics.csv", "best.safetensors", "last.safetensors", "checkpoint.safetensors"):
        assert (tmp_path / "runs" / "digits" / name).is_file(), name
    assert list((tmp_path / "runs" / "digits").glob("events.out.tfevents*"))


def test_commands_that_are_not_run_have_flags_that_exist() -> None:
    """Every ``metaformer`` command of the README is known to the command line, flag by flag."""
    lines = [line for _, text in blocks(README, "bash") for line in commands(text) if "metaformer " in line]
    helps: dict[str, str] = {}
    for line in lines:
        verb, *words = line.split("metaformer ", 1)[1].split()
        if verb not in helps:
            helps[verb] = subprocess.run(
                [sys.executable, "-m", "metaformer", verb, "--help"],
                capture_output=True,
                text=True,
                timeout=120,
                env={**os.environ, "COLUMNS": "300", "PYTHONUTF8": "1"},
                check=True,
            ).stdout
        for flag in (word for word in words if word.startswith("--")):
            assert re.search(rf"{re.escape(flag)}\b", helps[verb]), f"metaformer {verb} has no {flag}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name} names `make {target}`"


def script(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_models_are_the_zoos() -> None:
    table = script("models_table")
    assert table.written(README) == README, "run `python docs/models_table.py`"
    assert all(f"| `{row.name}` |" in table.section() for row in CATALOGUE.values() if not table.is_variant(row))


def test_axes_are_the_specs() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = script("instance_table")
    assert table.written(page) == page, "run `python docs/instance_table.py`"
    framed = {row.family for row in CATALOGUE.values() if isinstance(row.spec, ModelSpec)}
    assert all(f"| **{family}** |" in page for family in framed)


def test_the_comparison_is_what_is_counted(tmp_path: Path) -> None:
    """The page, every mark with its reason, and the figure as far as this matplotlib draws as the one that drew it."""
    comparison = script("comparison_page")
    lines = comparison.lines()
    assert comparison.page(lines) == comparison.PAGE.read_text(encoding="utf-8"), "run `python docs/comparison_page.py`"
    assert [line.name for line in lines if line.differs and not line.note] == []
    drawn = comparison.write_plot(lines, tmp_path / "comparison.svg").read_text(encoding="utf-8")
    committed = comparison.FIGURE.read_text(encoding="utf-8")
    if f"Matplotlib v{matplotlib.__version__}," in committed:
        assert drawn == committed, "run `python docs/comparison_page.py`"
    else:
        assert drawn.count("<path") > 100


def test_detectors_and_segmenters_are_what_is_counted() -> None:
    dense = script("dense_page")
    assert dense.page() == dense.PAGE.read_text(encoding="utf-8"), "run `python docs/dense_page.py`"


def test_speed_is_what_was_measured() -> None:
    """README, page and figure are what the committed results of ``metaformer bench`` give."""
    performance = script("performance_page")
    found = performance.results()
    page = performance.PAGE.read_text(encoding="utf-8")
    assert performance.written(README, performance.readme_section(found)) == README, "run docs/performance_page.py"
    assert performance.written(page, performance.page_section(found)) == page, "run docs/performance_page.py"
    assert performance.FIGURE.exists() == (performance.MAIN in found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_named_in_a_page_exist(page: Path) -> None:
    """Code-like words such as ``model/build.py`` name files of the library or of the checkout."""
    for name in re.findall(r"`((?:[\w.]+/)*[\w]+\.(?:py|md|svg|cff))`", page.read_text(encoding="utf-8")):
        places = (ROOT / name, ROOT / "metaformer" / name, page.parent / name)
        assert any(place.exists() for place in places), f"{page.name} names {name}"


def test_tree_names_what_exists() -> None:
    (tree,) = (text for _, text in blocks(README, "text"))
    room = ROOT
    for line in filter(str.strip, tree.splitlines()):
        depth = len(re.match(r"[│├└─\s]*", line)[0]) // 4  # type: ignore[index]
        names = re.findall(r"(?<![\w.])([a-z_/]+(?:\.py|/))(?=\s)", f"{line.lstrip('│├└─ ')} ")
        folder = {0: ROOT, 1: ROOT / "metaformer", 2: room}[depth]
        if depth == 1:
            room = folder / names[0]
        for name in names[:1] if depth == 2 else names:
            assert (folder / name).exists(), f"the tree names {name} in {folder.name}"
