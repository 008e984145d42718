"""docs/performance_page.py on fabricated times."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from metaformer.benchmark.contenders import BASELINE, OURS, PEERS, Row
from metaformer.benchmark.inference import Comparison
from metaformer.benchmark.scaling import Curve
from metaformer.benchmark.training import TrainingResult, training_contenders

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "performance_page.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("performance_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result() -> dict[str, Any]:
    """0.8 s for every contender that is not listed; bf16 in training only."""
    seconds = {"ours, fast, openvino, fp32": 0.2, "timm, openvino, fp32": 0.3, "ours, fast, openvino, int8": 0.1}
    rows = []
    for contender in (*OURS, *PEERS):
        row = Row.of(contender)
        row.times = [seconds.get(row.name, 0.8)] * 3
        if contender.precision == "bf16":
            row.fail(ValueError("no bf16"))
        rows.append(row)
    peaks = {"fp32": [0.5] * 3, "int8": [0.25] * 3}
    comparison = Comparison(model="m", batch=8, size=224, macs=10**9, rows=rows, peaks=peaks)
    training = TrainingResult(model="m", batch=8, size=224)
    for contender in training_contenders():
        row = Row.of(contender)
        row.times, row.metrics = ([1.0, 1.0, 4.0], {"peak_bytes": 60}) if row.library == "metaformer" else (
            [2.0, 1.5, 4.0], {"peak_bytes": 100}
        )  # fmt: skip
        training.rows.append(row)
    curve = Curve(mixer="pooling", tokens=[100, 200, 400], bytes=[4, 8, 16], times=[[0.1], [0.2], [0.4]])
    return {
        "command": "metaformer bench all",
        "machine": {"cpu": "P", "gpu": None, "instructions": ["avx2"], "torch": "2", "commit": "c", "date": "d"},
        "setting": {"device": "cpu", "threads": 2, "rounds": 3},
        "inference": [comparison.to_dict()],
        "training": [training.to_dict()],
        "scaling": [curve.to_dict()],
        "start_up": [
            {
                "name": "import torch",
                "state": "timed",
                "note": "",
                "times": [2.0],
                "seconds": 2.0,
                "of_import_torch": 1.0,
            }
        ],
    }


def test_goals_are_computed_from_the_rounds(script: ModuleType) -> None:
    measured = result()
    measured["inference"].append({**measured["inference"][0], "model": "n", "rows": []})
    goals = {what: found for what, _, found in script.goals(measured)}
    assert goals["default float32 inference / timm, eager"] == [4.0, None]
    assert goals["best int8 / timm, eager"] == [8.0, None]
    assert goals["best bf16 / timm, eager"] == [None, None]
    assert goals["our graph / timm's graph, OpenVINO fp32"] == [pytest.approx(1.5), None]
    assert goals["our graph / timm's graph, OpenVINO bf16"] == [None, None]
    assert goals["training step, ours, bf16 / timm's, speed"] == [1.5]
    assert goals["training step, ours, bf16 / timm's, peak memory"] == [0.6]
    assert goals["pooling's scaling with the tokens, exponent"] == [pytest.approx(1.0)]
    table = script.goals_table(measured)
    assert table[0] == "|  | at least | m, batch 8 | n, batch 8 |"
    assert "| best int8 / timm, eager | 7 × | 8.00 | not on this machine |" in table
    assert table[-1].endswith("| 1.00 |  |")


def test_pages_show_results_and_what_was_not_measured(script: ModuleType) -> None:
    found = {"cpu": result()}
    readme, page = script.readme_section(found), script.page_section(found)
    assert "| ours, fast, openvino, int8 | int8 | 80.0 | 8.00 [8.00, 8.00] |" in readme
    assert f"× {BASELINE}" in readme
    assert "bf16 |" not in readme.replace("bf16, ", "")
    assert "| best bf16 / timm, eager | 5 × | not on this machine |" in page
    assert "| pooling | 100.0 | 200.0 | 400.0 | 1.00 ± 0.00 | 1.00 ± 0.00 |" in page
    assert "- failed: ValueError: no bf16 (" in page
    around = f"before\n{script.START}\nold\n{script.END}\nafter"
    assert script.written(around, readme) == f"before\n{readme}\nafter"


def test_pages_without_results_say_so(script: ModuleType) -> None:
    assert script.NO_RESULTS in script.readme_section({})
    assert script.NO_RESULTS in script.page_section({})
