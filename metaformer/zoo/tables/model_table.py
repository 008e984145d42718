"""The published models as a table for the terminal, CSV, Markdown or JSON.

A row is a mapping with ``name``, ``family``, ``parameters``, ``macs`` (a count, not billions), ``top1`` (in percent, or
None), ``img_size``, ``weights`` (whether published weights exist) and ``paper``.
No torch and no matplotlib here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ...render.numbers import DASH, known, plain, short

COLUMNS = ("name", "family", "parameters", "macs", "top1", "img_size", "weights", "paper")
_HEADS = ("model", "family", "parameters", "MACs", "top-1 (%)", "input", "weights", "paper")
_NUMERIC = {"parameters", "macs", "top1", "img_size"}

ZooRow = Mapping[str, Any]


def zoo_table(rows: Iterable[ZooRow], title: str | None = None) -> Table:
    """A table for a terminal of 80 columns: a heading for each family, its models below."""
    table = bare_table(title)
    shown = [(name, head) for name, head in zip(COLUMNS, _HEADS, strict=True) if name not in ("family", "paper")]
    for name, head in shown:
        justify: Any = "right" if name in _NUMERIC else "center" if name == "weights" else "left"
        table.add_column(head.removesuffix(" (%)"), justify=justify, no_wrap=True)
    family = None
    for row in rows:
        if row.get("family") != family:
            family = row.get("family")
            table.add_section()
            table.add_row(Text(plain(family), style="bold"))
        table.add_row(*(Text(_cell(row, name)) for name, _ in shown))
    return table


def bare_table(title: str | None = None) -> Table:
    """A table without vertical lines or padding: with the longest names there is no room for them in 80 columns."""
    return Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD, show_edge=False,
        padding=0,
    )  # fmt: skip


def zoo_csv(rows: Iterable[ZooRow]) -> str:
    """CSV with exact numbers and a header; unknown values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_exact(row) | {"img_size": _cell(row, "img_size")} for row in rows)
    return text.getvalue()


def zoo_json(rows: Iterable[ZooRow]) -> str:
    """A JSON list with exact numbers; unknown values are null."""
    return json.dumps([_exact(row) for row in rows], indent=2, ensure_ascii=False)


def zoo_markdown(rows: Iterable[ZooRow]) -> str:
    """A Markdown table."""
    marks = ["---:" if name in _NUMERIC else ":---:" if name == "weights" else "---" for name in COLUMNS]
    lines = [markdown_line(_HEADS), markdown_line(marks)]
    lines += [markdown_line([_cell(row, name) for name in COLUMNS]) for row in rows]
    return "\n".join(lines) + "\n"


def markdown_line(cells: Iterable[str]) -> str:
    """One row of a Markdown table, with pipes in cells escaped."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _exact(row: ZooRow) -> dict[str, Any]:
    return {name: row.get(name) for name in COLUMNS}


def _cell(row: ZooRow, name: str) -> str:
    value = row.get(name)
    if name == "parameters":
        return f"{value:,}" if known(value) else DASH
    if name == "macs":
        return short(value)
    if name == "top1":
        return f"{value:.1f}" if known(value) else DASH
    if name == "weights":
        return "✓" if value else DASH
    if name == "img_size" and isinstance(value, (list, tuple)):
        return input_size(value)
    return plain(value)


def input_size(sides: Sequence[int]) -> str:
    """``224`` for a square, ``224x192`` for height and width that differ."""
    return "x".join(str(side) for side in dict.fromkeys(sides))
