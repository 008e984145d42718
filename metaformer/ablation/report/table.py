"""The table of a sweep, one row per variant: as CSV, JSON and Markdown in its folder, and for the terminal.

CSV and JSON have all digits; Markdown and the terminal are rounded.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ...metrics import MetricDef
from ...render.numbers import DASH, count, short
from ...zoo.tables.model_table import markdown_line
from .files import SweepRun
from .formatting import column, correlation, digits_of, heading, interval, mean_text, points, probability, unit
from .results import SweepResults, SweepRow


def write_tables(sweep: SweepResults) -> None:
    """Write table.csv, table.json and table.md into the sweep's folder."""
    texts = {"csv": sweep_csv(sweep), "json": sweep_json(sweep), "md": sweep_markdown(sweep)}
    for kind, text in texts.items():
        (sweep.files.folder / f"table.{kind}").write_text(text, encoding="utf-8")


# Exact.


def exact(row: SweepRow) -> dict[str, Any]:
    """A row with all digits, by the columns of table.csv."""
    difference = row.difference
    low, high = (difference and difference.interval) or (None, None)
    return {
        "variant": row.name,
        "group": row.variant.group,
        "parameters": row.parameters,
        "macs": row.macs,
        "training_samples_per_second": row.training_speed,
        "inference_samples_per_second": row.inference_speed,
        "runs": row.summary.number,
        "diverged": row.diverged,
        column(row.metric): row.summary.mean,
        f"{row.metric.name}_deviation": row.summary.deviation,
        "difference": difference and difference.mean,
        "difference_low": low,
        "difference_high": high,
        "p": difference and difference.p,
        "p_holm": difference and difference.p_holm,
        "published_percent" if row.metric.unit == "share" else "published": row.variant.published,
        "published_difference": row.published_difference,
        "notes": "; ".join(row.notes),
    }


def sweep_csv(sweep: SweepResults) -> str:
    """A header and a line per variant; unknown values are empty. Differences of shares are percentage points."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(exact(sweep.base)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(exact(row) for row in sweep.rows)
    return text.getvalue()


def sweep_json(sweep: SweepResults) -> str:
    """``results``, which depends on no clock; then speeds, cost, the setting and every run."""
    document = {
        "format": 2,
        "results": sweep.to_dict(),
        "speed": {
            row.name: {
                "training_samples_per_second": row.training_speed,
                "inference_samples_per_second": row.inference_speed,
            }
            for row in sweep.rows
        },
        "cost": _cost(sweep),
        "setting": setting(sweep),
        "runs": [_run(run, sweep.metric) for run in sweep.files.runs],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _cost(sweep: SweepResults) -> dict[str, Any]:
    cost, sessions = sweep.cost, [asdict(session) for session in sweep.files.sessions]
    return {
        "worker_seconds": cost.worker, "wall_seconds": cost.wall, "epoch_seconds": cost.epochs,
        "overhead": cost.overhead, "sessions": sessions,
    }  # fmt: skip


def setting(sweep: SweepResults) -> dict[str, Any]:
    """What the sweep was made of: the plan's texts and data, the base's recipe, machines and commits of the runs."""
    plan = sweep.files.plan.to_dict()
    return {
        **{name: plan[name] for name in ("name", "title", "question", "source", "command", "version", "data", "notes")},
        "recipe": sweep.base.variant.recipe.to_dict(),
        "machines": distinct(sweep, "machine"),
        "commits": distinct(sweep, "commit"),
        "versions": distinct(sweep, "version"),
    }


def distinct(sweep: SweepResults, name: str) -> list[Any]:
    """The different values of a field in the runs' config.json, in the order of the runs."""
    found: list[Any] = []
    for run in sweep.files.runs:
        config = run.files.config if run.files is not None else None
        value = None if config is None else config.to_dict().get(name)
        if value and value not in found:
            found.append(value)
    return found


def _run(run: SweepRun, metric: MetricDef) -> dict[str, Any]:
    return {
        "variant": run.variant, "seed": run.seed, "folder": f"runs/{run.key}", "state": run.state,
        column(metric): run.value, "reason": run.diverged,
    }  # fmt: skip


# Rounded.

TEXT_HEADS = ("variant", "notes")
"""The columns of ``cells`` that are not numbers."""


def cells(row: SweepRow) -> dict[str, str]:
    """A row for people, by the heads of its columns."""
    published, difference = row.variant.published, row.difference
    digits, rough = digits_of(row.metric), digits_of(row.metric, rough=True)
    within = interval(difference, digits)
    mean = points(difference.mean if difference else None, digits)
    return {
        "variant": row.name,
        "parameters": short(row.parameters),
        "MACs": short(row.macs),
        "train samples/s": count(row.training_speed),
        "infer samples/s": count(row.inference_speed),
        f"{heading(row.metric)} ± sd": mean_text(row.summary, digits),
        "difference [95 %]": "base" if row.kind == "base" else f"{mean}{f' [{within}]' if within else ''}",
        "p (Holm)": probability(difference.p_holm if difference else None),
        "published": DASH if published is None else f"{published:.{rough}f}",
        "published diff.": points(row.published_difference, rough),
        "notes": ", ".join(row.notes),
    }


def footnotes(sweep: SweepResults) -> list[str]:
    """How the table's numbers come about, as far as it has such numbers."""
    seeds = len(sweep.files.plan.seeds)
    sentences = ["One seed: no deviation, no interval, no test."]
    if seeds > 1:
        sentences = [
            f"Mean ± standard deviation over {seeds} seeds; differences are paired by seed, with their 95 % interval.",
            "p is that of a two-sided paired t-test, corrected by Holm's method over all variants.",
        ]
    if any(row.diverged for row in sweep.rows):
        sentences.append(f"A run that diverged {counts_as(sweep)}.")
    if sweep.ranks is not None:
        sentences.append(f"Spearman's ρ with the published numbers: {correlation(sweep.ranks)}.")
    return sentences


def counts_as(sweep: SweepResults) -> str:
    """How a run that diverged counts, as the end of a sentence."""
    chance = sweep.files.chance
    if chance is None:
        return "has no part in means, differences and ranks"
    return f"counts as chance ({chance:g}{unit(sweep.metric)}) in means, differences and ranks"


def sweep_markdown(sweep: SweepResults) -> str:
    """A Markdown table with its footnotes; differences that are significant after the correction are bold."""
    has_notes = any(row.notes for row in sweep.rows)
    heads = [head for head in cells(sweep.base) if head != "notes" or has_notes]
    lines = [markdown_line(heads), markdown_line("---" if head in TEXT_HEADS else "---:" for head in heads)]
    for row in sweep.rows:
        texts = cells(row)
        texts["variant"] = f"**{row.name}**" if row.kind == "base" else row.name
        if row.is_significant:
            texts["difference [95 %]"] = f"**{texts['difference [95 %]']}**"
        lines.append(markdown_line(texts[head] for head in heads))
    done, planned = sweep.done
    unfinished = [f"**Not finished: {done} of {planned} runs.**"] if done < planned else []
    return "\n".join([*lines, "", *unfinished, *footnotes(sweep)]) + "\n"


def terminal_table(sweep: SweepResults) -> Table:
    """A rich table of what fits a terminal: groups separated, significant differences bold, diverged runs red."""
    done, planned = sweep.done
    title = sweep.files.title + (f" ({done} of {planned} runs)" if done < planned else "")
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False,
        title=Text(title), title_justify="left", title_style="bold", header_style="dim",
        caption=Text(" ".join(footnotes(sweep))), caption_justify="left", caption_style="dim",
    )  # fmt: skip
    table.add_column("variant")
    value = f"{heading(sweep.metric)} ± sd"
    for head in ("MACs", "train samples/s", value, "difference ± 95 %", "p (Holm)", "published"):
        table.add_column(head, justify="right", no_wrap=" " not in head)
    for rows in sweep.groups.values():
        for row in rows:
            table.add_row(*_terminal_row(row))
        table.add_section()
    return table


def _terminal_row(row: SweepRow) -> list[Text]:
    """Text, not markup, because a name may have square brackets. Half of the symmetric interval stands after ±."""
    texts, digits = cells(row), digits_of(row.metric)
    name = Text(row.name, style="bold" if row.kind == "base" else "")
    name.append("".join(f"\n{note}" for note in row.notes), style="red" if row.diverged else "dim")
    difference = row.difference
    text = "base" if row.kind == "base" else points(difference.mean if difference else None, digits)
    if difference is not None and difference.interval is not None:
        low, high = difference.interval
        text += f" ± {(high - low) / 2:.{digits}f}"
    value = texts[f"{heading(row.metric)} ± sd"]
    shown = [texts["MACs"], texts["train samples/s"], value, text, texts["p (Holm)"], texts["published"]]
    styles = ["", "", "bold" if row.kind == "base" else "", "bold" if row.is_significant else "", "", ""]
    # No-break spaces keep a number and its deviation on one line.
    return [name, *(Text(cell.replace(" ", "\u00a0"), style) for cell, style in zip(shown, styles, strict=True))]
