"""The zoo's table and a run's model card say what they were given, in forms that other programs read."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from metaformer.errors import RunError
from metaformer.report.model_card import model_card, model_card_from
from metaformer.report.zoo_table import COLUMNS, zoo_csv, zoo_json, zoo_markdown, zoo_table
from metaformer.zoo.catalogue import CATALOGUE

from . import fabricated as fake

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
        "import sys, metaformer.report.zoo_table, metaformer.report.imagenet_table as table;"
        "table.comparison_table([]);"
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout


def front_matter(card: str) -> dict[str, Any]:
    _, matter, _ = card.split("---\n", 2)
    return yaml.safe_load(matter)


def test_a_card_is_written_from_the_run(tmp_path: Path) -> None:
    card = model_card(fake.run_folder(tmp_path), repo_id="someone/digits")
    matter = front_matter(card)
    assert (matter["library_name"], matter["license"], matter["pipeline_tag"]) == (
        "metaformer", "apache-2.0", "image-classification",
    )  # fmt: skip
    assert {"metaformer", "poolformer", "token-mixer:pooling"} <= set(matter["tags"])
    metrics = matter["model-index"][0]["results"][0]["metrics"]
    assert {metric["type"]: metric["value"] for metric in metrics} == {"accuracy": 0.95, "top5_accuracy": 1.0}
    for said in ("# poolformer_s12 on digits", "95.00 %", "someone/digits", "in_chans=1", "num_classes=2", "0.0023"):
        assert said in card


def test_a_card_from_dicts_agrees_with_the_files(tmp_path: Path) -> None:
    card = model_card_from(fake.config(("cat", "dog")), fake.evaluation(("cat", "dog")))
    assert front_matter(card) == front_matter(model_card(fake.run_folder(tmp_path)))
    assert "accuracy" not in str(front_matter(model_card_from(fake.config(("cat",)))))


def test_a_card_tells_nothing_of_the_machines_folders() -> None:
    config = fake.config(("cat",))
    config["data"]["source"] = "/home/somebody/secret/flowers"
    config["recipe"]["model"]["weights"] = "/home/somebody/secret/start.safetensors"
    card = model_card_from(config)
    assert "secret" not in card
    assert "flowers" in card


def test_names_cannot_break_a_card() -> None:
    names = ("<script>", "a | b\nc", "--- \n# head")
    card = model_card_from(fake.config(names), fake.evaluation(names))
    assert "<script>" not in card
    assert "a \\| b c" in card
    assert front_matter(card)["library_name"] == "metaformer"
    with pytest.raises(RunError):
        model_card_from(fake.config(names), {"confusion": [[1]], "classes": []})
