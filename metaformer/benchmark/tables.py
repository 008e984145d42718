"""A bench's result as tables for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ..render.numbers import DASH, percent

Result = Mapping[str, Any]


def tables(result: Result) -> Iterator[tuple[Table, Sequence[Result]]]:
    """One for each section, for inference one for each model and batch, with what it was made of."""
    for comparison in result.get("inference", ()):
        yield inference_table(comparison), comparison["rows"]
    for lesson in result.get("training", ()):
        yield training_table(lesson), lesson["rows"]
    if "growth" in result:
        yield growth_table(result["growth"]), ()
    if "start_up" in result:
        yield start_up_table(result["start_up"]), ()


def told_beside(rows: Sequence[Result]) -> list[str]:
    """A line for each reason that somebody is not timed, and each remark on who is, with the names that it is about."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["note"]:
            state = "" if row["state"] == "timed" else f"{row['state']}: "
            reasons.setdefault(f"{state}{row['note']}", []).append(row["name"])
    return [f"{reason} ({'; '.join(names)})" for reason, names in reasons.items()]


def inference_table(comparison: Result) -> Table:
    """Images/s, how many times faster than the baseline, and the share of the machine's peak."""
    peaks = ", ".join(f"{name} {speed:,.0f}" for name, speed in comparison["peak_gflops"].items())
    title = f"{comparison['model']}, {comparison['size']} pixels, batch {comparison['batch']}; peak in GFLOP/s: {peaks}"
    table = _table(title, ("contender",), ("images/s", "× baseline", "quartiles", "of the peak"), ("difference",))
    for row in comparison["rows"]:
        figures = row["figures"]
        share = figures.get("share_of_peak")
        _add(table, row, (*_speed(figures), percent(share, 1) if share else ""))
    return table


def training_table(lesson: Result) -> Table:
    """Images/s, times the baseline, peak memory."""
    title = f"training step of {lesson['model']}, {lesson['size']} pixels, batch {lesson['batch']}"
    table = _table(title, ("learner",), ("images/s", "× baseline", "quartiles", "peak memory"), ("difference",))
    for row in lesson["rows"]:
        taken = row["figures"].get("peak_bytes")
        _add(table, row, (*_speed(row["figures"]), f"{taken / 2**20:,.0f} MiB" if taken else DASH))
    return table


def growth_table(curves: Sequence[Result]) -> Table:
    """A line for each mixer: times over the tokens, exponents of time and memory."""
    tokens = curves[0]["tokens"]
    heads = (*(f"N = {count:,}" for count in tokens), "time ~ N^", "memory ~ N^")
    table = _table("one block, ms over the number of tokens N", ("mixer",), heads, ())
    for curve in curves:
        times = [f"{1e3 * statistics.median(times):,.1f}" if times else DASH for times in curve["times"]]
        fits = [
            f"{fit['exponent']:.2f} ± {fit['error']:.2f}" if fit else DASH
            for fit in (curve.get("time"), curve.get("memory"))
        ]
        table.add_row(curve["mixer"], *times, *fits)
    return table


def start_up_table(rows: Sequence[Result]) -> Table:
    """Seconds, and how many times what ``import torch`` takes."""
    table = _table("fresh processes", ("what",), ("seconds", "× import torch"), ())
    for row in rows:
        if "seconds" in row:
            table.add_row(row["name"], f"{row['seconds']:.2f}", f"{row.get('of_import_torch', 1):.2f}")
        else:
            table.add_row(row["name"], DASH, Text(row["note"], style="yellow"))
    return table


def _table(title: str, left: Sequence[str], right: Sequence[str], more: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in left:
        table.add_column(head, overflow="fold")
    for head in (*right, *more):
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _speed(figures: Result) -> tuple[str, str, str]:
    if "images_per_second" not in figures:
        return DASH, DASH, DASH
    if "ratio" not in figures:
        return f"{figures['images_per_second']:,.1f}", DASH, DASH
    low, high = figures["quartiles"]
    return f"{figures['images_per_second']:,.1f}", f"{figures['ratio']:.2f}", f"{low:.2f} to {high:.2f}"


def _add(table: Table, row: Result, cells: Sequence[str]) -> None:
    """A row with its figures; for one that is not timed its state, and ``told_beside`` says why."""
    if row["state"] == "left out":
        return
    difference = "" if row["difference"] is None else f"{row['difference']:.0e}"
    if row["state"] == "timed":
        table.add_row(row["name"], *cells, difference)
    else:
        table.add_row(row["name"], Text(row["state"], style="bold red"), *[""] * (len(cells) - 1), difference)
