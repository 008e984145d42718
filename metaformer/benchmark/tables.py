"""The result of a bench as tables for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ..render.numbers import DASH, percent

Result = Mapping[str, Any]


def tables(result: Result) -> Iterator[tuple[Table, Sequence[Result]]]:
    """One table per section, for inference one per model and batch size; each with the rows that may have notes."""
    for comparison in result.get("inference", ()):
        yield inference_table(comparison), comparison["rows"]
    for training in result.get("training", ()):
        yield training_table(training), training["rows"]
    if "scaling" in result:
        yield scaling_table(result["scaling"]), ()
    if "start_up" in result:
        yield start_up_table(result["start_up"]), ()


def notes(rows: Sequence[Result]) -> list[str]:
    """One line per note (why a contender is not timed, or a remark), with the names of all contenders that have it."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row["note"]:
            state = "" if row["state"] == "timed" else f"{row['state']}: "
            names.setdefault(f"{state}{row['note']}", []).append(row["name"])
    return [f"{note} ({'; '.join(several)})" for note, several in names.items()]


def inference_table(comparison: Result) -> Table:
    """Images/s, speed relative to the baseline, and the share of the machine's peak."""
    peaks = ", ".join(f"{name} {speed:,.0f}" for name, speed in comparison["peak_gflops"].items())
    title = f"{comparison['model']}, {comparison['size']} pixels, batch {comparison['batch']}; peak in GFLOP/s: {peaks}"
    table = _table(title, "contender", ("images/s", "× baseline", "quartiles", "of the peak", "difference"))
    for row in comparison["rows"]:
        share = row["metrics"].get("share_of_peak")
        _add(table, row, (*_speed(row["metrics"]), percent(share, 1) if share else ""))
    return table


def training_table(training: Result) -> Table:
    """Images/s, speed relative to the baseline, peak memory."""
    title = f"training step of {training['model']}, {training['size']} pixels, batch {training['batch']}"
    table = _table(title, "contender", ("images/s", "× baseline", "quartiles", "peak memory", "difference"))
    for row in training["rows"]:
        peak = row["metrics"].get("peak_bytes")
        _add(table, row, (*_speed(row["metrics"]), f"{peak / 2**20:,.0f} MiB" if peak else DASH))
    return table


def scaling_table(curves: Sequence[Result]) -> Table:
    """One row per mixer: times over the number of tokens, exponents of time and memory."""
    heads = (*(f"N = {count:,}" for count in curves[0]["tokens"]), "time ~ N^", "memory ~ N^")
    table = _table("one block, ms over the number of tokens N", "mixer", heads)
    for curve in curves:
        times = [f"{1e3 * statistics.median(times):,.1f}" if times else DASH for times in curve["times"]]
        fits = [
            f"{fit['exponent']:.2f} ± {fit['error']:.2f}" if fit else DASH
            for fit in (curve.get("time"), curve.get("memory"))
        ]
        table.add_row(curve["mixer"], *times, *fits)
    return table


def start_up_table(rows: Sequence[Result]) -> Table:
    """Seconds, and as multiples of ``import torch``."""
    table = _table("fresh processes", "process", ("seconds", "× import torch"))
    for row in rows:
        if "seconds" in row:
            table.add_row(row["name"], f"{row['seconds']:.2f}", f"{row.get('of_import_torch', 1):.2f}")
        else:
            table.add_row(row["name"], DASH, Text(row["note"], style="yellow"))
    return table


def _table(title: str, first: str, numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for head in numbers:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _speed(metrics: Result) -> tuple[str, str, str]:
    if "images_per_second" not in metrics:
        return DASH, DASH, DASH
    if "ratio" not in metrics:
        return f"{metrics['images_per_second']:,.1f}", DASH, DASH
    low, high = metrics["quartiles"]
    return f"{metrics['images_per_second']:,.1f}", f"{metrics['ratio']:.2f}", f"{low:.2f} to {high:.2f}"


def _add(table: Table, row: Result, cells: Sequence[str]) -> None:
    """Add a row; without times its state in place of the numbers. Contenders left out appear in ``notes`` only."""
    if row["state"] == "left out":
        return
    difference = "" if row["difference"] is None else f"{row['difference']:.0e}"
    if row["state"] == "timed":
        table.add_row(row["name"], *cells, difference)
    else:
        table.add_row(row["name"], Text(row["state"], style="bold red"), *[""] * (len(cells) - 1), difference)
