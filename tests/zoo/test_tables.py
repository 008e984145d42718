"""The zoo's table and a run's model card say what they were given, in forms that other programs read."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import Any

from rich.console import Console

from metaformer.zoo.catalogue import CATALOGUE
from metaformer.zoo.tables.model_table import COLUMNS, zoo_csv, zoo_json, zoo_markdown, zoo_table

ROWS: list[dict[str, Any]] = [
    {"name": "poolformer_s12", "family": "PoolFormer", "parameters": 11_915_176, "macs": 1_822_678_528, "top1": 77.2,
     "img_size": (224, 224), "weights": True, "paper": "2111.11418"},
    {"name": "odd|name", "family": "Other", "parameters": 5, "macs": 0, "top1": None,
     "img_size": 384, "weights": False, "paper": None},
]  # fmt: skip


def test_csv_and_json_keep_exact_numbers() -> None:
    first, second = csv.DictReader(io.StringIO(zoo_csv(ROWS)))
    assert tuple(first) == COLUMNS
    assert (first["parameters"], first["macs"], first["img_size"]) == ("11915176", "1822678528", "224")
    assert (second["top1"], second["paper"]) == ("", "")
    assert json.loads(zoo_json(ROWS))[0] == ROWS[0] | {"img_size": [224, 224]}
    assert json.loads(zoo_json(ROWS))[1]["top1"] is None


def test_markdown_has_one_line_a_model_and_as_many_cells_as_heads() -> None:
    lines = zoo_markdown(ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert {line.replace("\\|", "").count("|") for line in lines} == {len(COLUMNS) + 1}
    assert "| poolformer_s12 | PoolFormer | 11,915,176 | 1.82 G | 77.2 | 224 | ✓ | 2111.11418 |" in lines


def test_the_terminal_shows_every_model() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(zoo_table(ROWS))
    assert all(word in out.getvalue() for word in ("poolformer_s12", "odd|name", "11,915,176", "1.82 G", "77.2", "384"))


def test_eighty_columns_hold_the_longest_name_and_the_largest_numbers() -> None:
    name = max(CATALOGUE, key=len)
    row = ROWS[0] | {"name": name, "parameters": 304_326_632, "macs": 191_211_000_000}
    out = io.StringIO()
    Console(file=out, width=80).print(zoo_table([row]))
    assert all(word in out.getvalue() for word in (name, "304,326,632", "191 G", "weights"))
    assert "…" not in out.getvalue()


def test_tables_need_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, metaformer.zoo.tables.model_table, metaformer.zoo.tables.imagenet_table as table;"
        "table.comparison_table([]);"
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout
