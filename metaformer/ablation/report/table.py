"""The table of a sweep, a row a variant: as CSV, JSON and Markdown in its folder, and for the terminal.

CSV and JSON have every digit; Markdown and the terminal are rounded for people.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ...render.numbers import DASH, count, short
from ...zoo.tables.model_table import markdown_line
from .files import SweepRun, part
from .formatting import accuracy, correlation, interval, points, probability
from .results import SweepResults, SweepRow, results
from .statistics import SIGNIFICANCE


def write_tables(sweep: SweepResults) -> None:
    """Write table.csv, table.json and table.md into the sweep's folder."""
    texts = {"csv": sweep_csv(sweep), "json": sweep_json(sweep), "md": sweep_markdown(sweep)}
    for kind, text in texts.items():
        (sweep.files.folder / f"table.{kind}").write_text(text, encoding="utf-8")


# Exact.

_EXACT: dict[str, Callable[[SweepRow], Any]] = {
    "variant": lambda row: row.name,
    "group": lambda row: row.variant.group,
    "parameters": lambda row: row.parameters,
    "macs": lambda row: row.macs,
    "training_images_per_second": lambda row: row.training_speed,
    "inference_images_per_second": lambda row: row.inference_speed,
    "runs": lambda row: row.summary.number,
    "broke_down": lambda row: row.broken,
    "top1_percent": lambda row: row.summary.mean,
    "top1_deviation": lambda row: row.summary.deviation,
    "difference": lambda row: _of(row, "mean"),
    "difference_low": lambda row: (_of(row, "interval") or (None, None))[0],
    "difference_high": lambda row: (_of(row, "interval") or (None, None))[1],
    "p": lambda row: _of(row, "p"),
    "p_holm": lambda row: _of(row, "p_holm"),
    "published_percent": lambda row: row.variant.published,
    "published_difference": lambda row: row.published_difference,
    "notes": lambda row: "; ".join(row.notes),
}


def _of(row: SweepRow, name: str) -> Any:
    return getattr(row.difference, name, None)


def sweep_csv(sweep: SweepResults) -> str:
    """A header and a line a variant; what is not known is empty. Differences are percentage points."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_EXACT)
    writer.writerows([read(row) for read in _EXACT.values()] for row in sweep.rows)
    return text.getvalue()


def sweep_json(sweep: SweepResults) -> str:
    """``results``, which no clock changes; then speeds, cost, the setting and every run."""
    document = {
        "format": 1,
        "results": results(sweep),
        "speed": {
            row.name: {
                "training_images_per_second": row.training_speed,
                "inference_images_per_second": row.inference_speed,
            }
            for row in sweep.rows
        },
        "cost": _cost(sweep),
        "setting": setting(sweep),
        "runs": [_run(run) for run in sweep.files.runs],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _cost(sweep: SweepResults) -> dict[str, Any]:
    cost, sessions = sweep.cost, [asdict(session) for session in sweep.files.sessions]
    return {
        "worker_seconds": cost.worker, "wall_seconds": cost.wall, "epoch_seconds": cost.epochs,
        "overhead": cost.overhead, "sessions": sessions,
    }  # fmt: skip


def setting(sweep: SweepResults) -> dict[str, Any]:
    """What the sweep was made of: the plan's own words, the base's recipe, machines and commits of the runs."""
    files = sweep.files
    told = {name: files.plan.get(name) for name in ("name", "title", "question", "source", "command", "version")}
    machines, commits = seen(sweep, "machine"), seen(sweep, "commit")
    recipe = dict(sweep.base.variant.recipe)
    return told | {
        "data": dict(part(files.plan, "data")), "notes": list(files.plan.get("notes") or ()), "recipe": recipe,
        "machines": machines, "commits": commits, "versions": seen(sweep, "version"),
    }  # fmt: skip


def seen(sweep: SweepResults, name: str) -> list[Any]:
    """The different values that the runs' config.json have under a name, in the order of the runs."""
    found: list[Any] = []
    for run in sweep.files.runs:
        config = run.files.config if run.files is not None else None
        value = None if config is None else config.to_dict().get(name)
        if value and value not in found:
            found.append(value)
    return found


def _run(run: SweepRun) -> dict[str, Any]:
    told = {"variant": run.variant, "seed": run.seed, "folder": f"runs/{run.key}", "state": run.state}
    return told | {"top1_percent": run.accuracy, "reason": run.broke_down}


# Rounded.

HEADS: Mapping[str, bool] = {
    "variant": False, "parameters": True, "MACs": True, "train img/s": True, "infer img/s": True,
    "top-1 % ± sd": True, "difference [95 %]": True, "p (Holm)": True, "paper": True, "paper's diff.": True,
    "notes": False,
}  # fmt: skip
"""Columns for people, and whether they are numbers."""


def cells(row: SweepRow) -> list[str]:
    """A row under ``HEADS``."""
    published = row.variant.published
    return [
        row.name,
        short(row.parameters),
        short(row.macs),
        count(row.training_speed),
        count(row.inference_speed),
        accuracy(row),
        difference(row),
        probability(_of(row, "p_holm")),
        DASH if published is None else f"{published:.1f}",
        points(row.published_difference, 1),
        ", ".join(row.notes),
    ]


def difference(row: SweepRow) -> str:
    """``−0.56 [−1.21 to +0.09]``; ``base`` for the base."""
    if row.kind == "base":
        return "base"
    within = interval(row.difference)
    return f"{points(_of(row, 'mean'))}{f' [{within}]' if within else ''}"


def footnotes(sweep: SweepResults) -> list[str]:
    """How the table's numbers come about, as far as it has such numbers."""
    seeds = len(sweep.files.seeds)
    said = ["One seed: no deviation, no interval, no test."]
    if seeds > 1:
        said = [
            f"Mean ± standard deviation over {seeds} seeds; differences are paired by seed, with their 95 % interval.",
            "p is that of a two-sided paired t-test, corrected by Holm's method over all variants.",
        ]
    if any(row.broken for row in sweep.rows):
        said.append(
            f"A run that broke down counts as chance ({sweep.files.chance:g} %) in means, differences and ranks."
        )
    if sweep.ranks is not None:
        said.append(f"Spearman's ρ with the published accuracies: {correlation(sweep.ranks)}.")
    return said


def is_sure(row: SweepRow) -> bool:
    """Whether the difference to the base holds after Holm's correction."""
    p = _of(row, "p_holm")
    return p is not None and p < SIGNIFICANCE


def sweep_markdown(sweep: SweepResults) -> str:
    """A Markdown table with its footnotes; differences that hold after the correction are bold."""
    heads = [head for head in HEADS if head != "notes" or _has_notes(sweep)]
    lines = [markdown_line(heads), markdown_line("---:" if HEADS[head] else "---" for head in heads)]
    for row in sweep.rows:
        shown = dict(zip(HEADS, cells(row), strict=True))
        shown["variant"] = f"**{row.name}**" if row.kind == "base" else row.name
        if is_sure(row):
            shown["difference [95 %]"] = f"**{shown['difference [95 %]']}**"
        lines.append(markdown_line(shown[head] for head in heads))
    done, planned = sweep.done
    unfinished = [f"**Not finished: {done} of {planned} runs.**"] if done < planned else []
    return "\n".join([*lines, "", *unfinished, *footnotes(sweep)]) + "\n"


def _has_notes(sweep: SweepResults) -> bool:
    return any(row.notes for row in sweep.rows)


def terminal_table(sweep: SweepResults) -> Table:
    """A rich table of what fits a terminal: groups separated, sure differences bold, failures red."""
    done, planned = sweep.done
    title = sweep.files.title + (f" ({done} of {planned} runs)" if done < planned else "")
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False,
        title=Text(title), title_justify="left", title_style="bold", header_style="dim",
        caption=Text(" ".join(footnotes(sweep))), caption_justify="left", caption_style="dim",
    )  # fmt: skip
    table.add_column("variant")
    for head in ("MACs", "train img/s", "top-1 % ± sd", "difference ± 95 %", "p (Holm)", "paper"):
        table.add_column(head, justify="right", no_wrap=" " not in head)
    for rows in sweep.groups.values():
        for row in rows:
            table.add_row(*_terminal_row(row))
        table.add_section()
    return table


def _terminal_row(row: SweepRow) -> list[Text]:
    """Text, not markup: a name may hold square brackets. The interval is symmetric, so its half says it all."""
    exact = dict(zip(HEADS, cells(row), strict=True))
    name = Text(row.name, style="bold" if row.kind == "base" else "")
    name.append("".join(f"\n{note}" for note in row.notes), style="red" if row.broken else "dim")
    within = _of(row, "interval")
    text = "base" if row.kind == "base" else points(_of(row, "mean"))
    text += f" ± {(within[1] - within[0]) / 2:.2f}" if within else ""
    shown = [exact["MACs"], exact["train img/s"], exact["top-1 % ± sd"], text, exact["p (Holm)"], exact["paper"]]
    styles = ["", "", "bold" if row.kind == "base" else "", "bold" if is_sure(row) else "", "", ""]
    return [name, *(Text(cell.replace(" ", "\u00a0"), style) for cell, style in zip(shown, styles, strict=True))]
