"""Several runs side by side: one row a run in; a page, its pictures and a table for the terminal out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from .numbers import duration, known, percent, short
from .run_files import RunFiles, read_run

_GROUPS = {"mixer": "Same architecture, different token mixer", "broken": "Architecture broken on purpose"}


@dataclass(frozen=True)
class ComparisonRow:
    """One run of a comparison."""

    title: str
    what: str
    """What differs from the others, in one line."""
    group: Literal["mixer", "broken"]
    """Whether only the token mixer differs, or the architecture is broken on purpose."""
    folder: Path
    """The run folder, from which curves and evaluation are read."""
    parameters: int
    macs: int
    """Multiply-adds for one picture."""
    seconds: float
    """Training time."""
    top1: float
    """Share in [0, 1] of the test pictures; NaN when the run failed."""
    error: str | None = None
    """Why there is no accuracy, or nothing."""


def write_comparison(
    folder: Path | str,
    rows: Sequence[ComparisonRow],
    title: str,
    question: str,
    findings: Sequence[str],
    *,
    chosen: str | None = None,
) -> Path:
    """Write report.html with its pictures (curves.png, tradeoff.png, confusion.png, predictions.png) into ``folder``.

    Args:
        folder: made if it is not there.
        rows: the runs, in the order of the table; a missing run folder only leaves its curve out.
        title: the page's heading.
        question: what the comparison asks, in a sentence.
        findings: what was measured, a sentence each.
        chosen: title of the row whose confusion matrix and samples are shown; the most accurate evaluated one
            with an unbroken architecture where left out.
    """
    from .page import evaluation_parts, write_page  # matplotlib comes with it; the terminal's table does without

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    runs = {row.title: read_run(row.folder) for row in rows if Path(row.folder).is_dir()}
    closer = _closer_look(rows, runs, chosen)
    context: dict[str, Any] = {"title": title, "question": question, "findings": list(findings)}
    context |= {"groups": _groups(rows), "most": _most(rows), "chosen": closer}
    context |= _drawings(folder, rows, runs)
    context |= evaluation_parts(runs[closer.title].evaluation if closer else None, folder)
    context["machine"] = _machine(runs)
    return write_page(folder / "report.html", "comparison.html.j2", context)


def _closer_look(rows: Sequence[ComparisonRow], runs: dict[str, RunFiles], chosen: str | None) -> ComparisonRow | None:
    """The chosen row, else the best evaluated one; unbroken architectures first."""
    evaluated = [row for row in rows if row.title in runs and runs[row.title].evaluation is not None]
    named = [row for row in evaluated if row.title == chosen]
    ranked = sorted(evaluated, key=lambda row: (row.group == "broken", -row.top1 if known(row.top1) else 1.0))
    return next(iter(named or ranked), None)


def _groups(rows: Sequence[ComparisonRow]) -> list[dict[str, Any]]:
    groups = [{"title": title, "rows": [row for row in rows if row.group == key]} for key, title in _GROUPS.items()]
    return [group for group in groups if group["rows"]]


def _most(rows: Sequence[ComparisonRow]) -> SimpleNamespace:
    """The largest value of each cost, which its bars are measured against; never zero."""

    def largest(values: Sequence[float]) -> float:
        return max((value for value in values if known(value) and value > 0), default=1)

    return SimpleNamespace(
        parameters=largest([row.parameters for row in rows]),
        macs=largest([row.macs for row in rows]),
        seconds=largest([row.seconds for row in rows]),
    )


def _drawings(folder: Path, rows: Sequence[ComparisonRow], runs: dict[str, RunFiles]) -> dict[str, Any]:
    from .page import drawing
    from .plots import Curve, curves_of_runs
    from .tradeoff import Point, accuracy_over_macs

    curves = [
        Curve(row.title, runs[row.title].metrics, row.group == "broken")
        for row in rows
        if row.title in runs and len(runs[row.title].metrics)
    ]
    points = [Point(row.title, row.macs, row.top1, row.group == "broken") for row in rows if known(row.top1)]
    found: dict[str, Any] = {"curves": None, "tradeoff": None}
    if curves:
        found["curves"] = drawing(curves_of_runs(curves), "Learning curves of all runs", folder / "curves.png")
    if points:
        found["tradeoff"] = drawing(accuracy_over_macs(points), "Accuracy over MACs", folder / "tradeoff.png")
    return found


def _machine(runs: dict[str, RunFiles]) -> list[tuple[str, str]]:
    from .run_setting import machine_rows

    return next((machine_rows(run.config) for run in runs.values() if run.config.get("machine")), [])


def comparison_table(rows: Sequence[ComparisonRow], title: str | None = None) -> Table:
    """The same table for the terminal: parameters, MACs, time, test accuracy."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    table.add_column("model")
    table.add_column("what differs", style="dim")
    for head in ("parameters", "MACs", "time", "test top-1"):
        table.add_column(head, justify="right", no_wrap=True)
    for group in _groups(rows):
        for row in group["rows"]:
            figures = (short(row.parameters), short(row.macs), duration(row.seconds))
            # Text, not markup: a title may hold square brackets.
            table.add_row(Text(row.title), Text(row.what), *figures, _verdict(row))
        table.add_section()
    return table


def _verdict(row: ComparisonRow) -> Text:
    if row.error:
        return Text(row.error, style="red")
    return Text(percent(row.top1), style="bold" if row.group == "mixer" else "yellow")
