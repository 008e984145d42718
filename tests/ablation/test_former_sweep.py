"""A sweep of version 0.1.0 is read, reported and resumed; run again, it has the results that it had."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import CHANGES, swept, written_plan

from metaformer.ablation.folder import FORMAT, SweepFolder
from metaformer.ablation.report.page import write_sweep_page
from metaformer.ablation.report.results import read_results
from metaformer.tasks.classification.metrics import TOP1

FORMER = Path(__file__).parents[1] / "version_0_1_0" / "sweep" / "out"


def former_results() -> dict[str, Any]:
    """Of its table.json, with what version 0.1.0 called otherwise under the present names."""
    results = json.loads((FORMER / "table.json").read_text())["results"]
    for variant in results["variants"]:
        variant["values"], variant["diverged"] = variant.pop("accuracies"), variant.pop("broke_down")
    return results | {"unit": "percent; differences in percentage points", "metric": TOP1.to_dict()}


def near(tree: Any) -> Any:
    """The same tree, whose numbers may differ as those of two processors do."""
    if isinstance(tree, dict):
        return {key: near(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [near(value) for value in tree]
    return pytest.approx(tree, rel=1e-3) if isinstance(tree, float) else tree


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FORMER, tmp_path / "former"))


def test_its_files_are_converted_when_they_are_read(copy: Path) -> None:
    sweep = SweepFolder(copy)
    plan = sweep.read_plan()
    assert (plan.format, plan.metric, plan.chance, len(plan.variants)) == (FORMAT, TOP1, 0.1, 4)
    assert plan.variants[0].recipe.optimizer.name == "adamw"  # optimisation.optimiser
    assert [event.run for event in sweep.read_journal() if event.event == "diverged"] == ["void/seed-0", "void/seed-1"]
    assert sweep.settled(plan) == set(plan.runs)


def test_its_report_has_its_results(copy: Path) -> None:
    write_sweep_page(copy)
    assert json.loads((copy / "table.json").read_text())["results"] == former_results()


@pytest.fixture
def former_plan(tmp_path: Path) -> Path:
    return written_plan(tmp_path, f'{CHANGES}Change(name="void", mixers=Void, published=70.0), ')


def test_it_is_resumed(copy: Path, former_plan: Path) -> None:
    assert "8 runs, 8 of them done already" in swept(former_plan, copy, seeds=2, resume=True)
    assert json.loads((copy / "plan.json").read_text())["format"] == FORMAT


def test_run_again_it_has_the_same_results(former_plan: Path, tmp_path: Path) -> None:
    swept(former_plan, tmp_path / "out", seeds=2, workers=1)
    assert read_results(tmp_path / "out").to_dict() == near(former_results())
