"""Several sweeps side by side: their folders in; a page, its figure, comparison.csv and comparison.json out.

Variants are matched by their names. Accuracies are top-1 in percent; what is compared between sweeps is their order.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from ...errors import RunError
from ...render.numbers import DASH
from ...render.page import drawing, write_page
from .files import is_sweep, part, read_sweep
from .formatting import accuracy, correlation, interval, listed, plural, points
from .plots import side_by_side
from .results import SweepResults, SweepRow, gathered
from .statistics import RankCorrelation, rank_correlation
from .table import is_sure

FOLDER = "comparison"
"""Where the comparison is written in the first sweep's folder."""

Sweeps = Mapping[str, SweepResults]
"""Sweeps by their labels, in the order they were named."""


def write_sweep_comparison(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the comparison of two or more sweeps; gives back the path of report.html.

    Raises:
        RunError: fewer than two sweeps, one named twice, no variant in common, a damaged file, or a folder to write
            to that holds a run or a sweep.
    """
    _expect_different(folders)
    out = out or folders[0] / FOLDER
    if is_sweep(out) or (out / "config.json").is_file():
        raise RunError(f"{out} holds a run or a sweep, whose report would be lost; choose another folder with --out")
    labels = _labels(folders)
    sweeps = {label: gathered(read_sweep(folder)) for label, folder in zip(labels, folders, strict=True)}
    if not _shared(sweeps):
        raise RunError(f"{listed(labels)} have no variant in common; give sweeps of one plan, or of plans that overlap")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "comparison.csv").write_text(_csv(sweeps), encoding="utf-8")
        (out / "comparison.json").write_text(_json(sweeps), encoding="utf-8")
        return write_page(out / "report.html", "sweep_comparison.html.j2", _context(sweeps, out))
    except OSError as error:
        raise RunError(f"{out}: the comparison cannot be written ({error.strerror})") from None


def _expect_different(folders: Sequence[Path]) -> None:
    places = [folder.resolve() for folder in folders]
    if len(places) < 2:
        raise RunError(f"a comparison needs two or more sweeps, got {plural(len(places), 'folder')}")
    if len(set(places)) < len(places):
        raise RunError("a sweep is named twice; give each folder once")


def _labels(folders: Sequence[Path]) -> list[str]:
    """The folders' names; with their parents' where those are alike."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    longer = [f"{folder.resolve().parent.name}/{name}" for folder, name in zip(folders, names, strict=True)]
    return longer if len(set(longer)) == len(longer) else [str(folder) for folder in folders]


def _groups(sweeps: Sweeps) -> dict[str, list[str]]:
    """Every variant's name once, by the group it has where it comes first."""
    groups: dict[str, list[str]] = {}
    seen: set[str] = set()
    for sweep in sweeps.values():
        for row in sweep.rows:
            if row.name not in seen:
                groups.setdefault(row.variant.group, []).append(row.name)
                seen.add(row.name)
    return groups


def _by_name(sweep: SweepResults) -> dict[str, SweepRow]:
    return {row.name: row for row in sweep.rows}


def _shared(sweeps: Sweeps) -> list[str]:
    first, *others = (_by_name(sweep) for sweep in sweeps.values())
    return [name for name in first if all(name in rows for rows in others)]


def _printed(sweeps: Sweeps) -> dict[str, float]:
    """Numbers in print, of the first sweep that has them."""
    printed: dict[str, float] = {}
    for sweep in sweeps.values():
        for row in sweep.rows:
            if row.variant.published is not None:
                printed.setdefault(row.name, row.variant.published)
    return printed


def _correlations(sweeps: Sweeps) -> dict[tuple[str, str], RankCorrelation | None]:
    """Of every two sweeps over the variants that both have results for, and of each with print."""
    means = {
        label: {row.name: row.summary.mean for row in sweep.rows if row.summary.mean is not None}
        for label, sweep in sweeps.items()
    }
    printed = _printed(sweeps)
    columns = means | ({"print": printed} if printed else {})
    return {pair: _correlated(columns[pair[0]], columns[pair[1]]) for pair in combinations(columns, 2)}


def _correlated(first: Mapping[str, float], second: Mapping[str, float]) -> RankCorrelation | None:
    names = [name for name in first if name in second]
    return rank_correlation([first[name] for name in names], [second[name] for name in names])


def _context(sweeps: Sweeps, out: Path) -> dict[str, Any]:
    groups, printed = _groups(sweeps), _printed(sweeps)
    figure = side_by_side(sweeps, groups, printed)
    shown = [
        {"title": group, "rows": [_line(name, sweeps, printed) for name in names]} for group, names in groups.items()
    ]
    return {
        "title": f"{len(sweeps)} sweeps side by side",
        "labels": list(sweeps),
        "findings": _findings(sweeps),
        "groups": shown,
        "has_print": bool(printed),
        "correlations": [_correlation_row(pair, ranks) for pair, ranks in _correlations(sweeps).items()],
        "figure": drawing(figure, "Accuracy per variant and sweep", out / "accuracy.png"),
        "sweeps": [_setting(label, sweep) for label, sweep in sweeps.items()],
    }


def _line(name: str, sweeps: Sweeps, printed: Mapping[str, float]) -> dict[str, Any]:
    cells = [_cell(_by_name(sweep).get(name)) for sweep in sweeps.values()]
    return {"name": name, "cells": cells, "published": f"{printed[name]:.1f}" if name in printed else DASH}


def _cell(row: SweepRow | None) -> dict[str, Any]:
    if row is None:
        return {"accuracy": DASH, "difference": "", "interval": "", "notes": [], "color": ""}
    difference = row.difference
    color = ("better" if difference.mean > 0 else "worse") if difference and is_sure(row) else ""
    text = "base" if row.kind == "base" else points(difference.mean) if difference else ""
    return {
        "accuracy": accuracy(row), "difference": text, "interval": interval(difference), "notes": row.notes,
        "color": color,
    }  # fmt: skip


def _correlation_row(pair: tuple[str, str], ranks: RankCorrelation | None) -> tuple[str, str]:
    return f"{pair[0]} and {pair[1]}", "too few variants in common" if ranks is None else f"ρ = {correlation(ranks)}"


def _findings(sweeps: Sweeps) -> list[str]:
    """How far the sweeps agree, from their numbers."""
    said = [
        f"Between {a} and {b}, Spearman's ρ is {correlation(ranks)}."
        for (a, b), ranks in _correlations(sweeps).items()
        if ranks is not None
    ]
    signs = {name: [_sure_sign(_by_name(sweep)[name]) for sweep in sweeps.values()] for name in _shared(sweeps)}
    agreed = {
        "worse": [name for name, seen in signs.items() if set(seen) == {-1}],
        "better": [name for name, seen in signs.items() if set(seen) == {1}],
    }
    for word, names in agreed.items():
        if names:
            said.append(f"Surely {word} than the base in every sweep: {'; '.join(names)}.")
    against = [name for name, seen in signs.items() if {-1, 1} <= set(seen)]
    if against:
        said.append(f"Surely better in one sweep and surely worse in another: {'; '.join(against)}.")
    bases = {sweep.files.base for sweep in sweeps.values()}
    if len(bases) > 1:
        said.append(f"The sweeps have different bases ({listed(sorted(bases))}): differences are to each one's own.")
    return said


def _sure_sign(row: SweepRow) -> int:
    """−1 or 1 where the difference holds after Holm's correction, else 0."""
    if row.difference is None or not is_sure(row):
        return 0
    return 1 if row.difference.mean > 0 else -1


def _setting(label: str, sweep: SweepResults) -> dict[str, str]:
    plan, (done, planned) = sweep.files.plan, sweep.done
    data = part(plan, "data")
    return {
        "label": label, "title": sweep.files.title, "data": str(data.get("source") or DASH),
        "seeds": str(len(sweep.files.seeds)), "runs": str(done) if done == planned else f"{done} of {planned}",
        "command": str(plan.get("command") or DASH),
    }  # fmt: skip


def _csv(sweeps: Sweeps) -> str:
    """A line a variant: mean, deviation and difference of each sweep, then print."""
    text, printed = io.StringIO(), _printed(sweeps)
    writer = csv.writer(text, lineterminator="\n")
    kinds = ("top1_percent", "top1_deviation", "difference")
    heads = [f"{label} {kind}" for label in sweeps for kind in kinds]
    writer.writerow(["variant", "group", *heads, "published_percent"])
    for group, names in _groups(sweeps).items():
        for name in names:
            values = [value for sweep in sweeps.values() for value in _values(_by_name(sweep).get(name))]
            writer.writerow([name, group, *values, printed.get(name)])
    return text.getvalue()


def _values(row: SweepRow | None) -> list[float | None]:
    if row is None:
        return [None] * 3
    return [row.summary.mean, row.summary.deviation, row.difference.mean if row.difference else None]


def _json(sweeps: Sweeps) -> str:
    document = {
        "format": 1,
        "sweeps": [_setting(label, sweep) for label, sweep in sweeps.items()],
        "variants": [
            {"name": name, "group": group, "sweeps": {
                label: dict(zip(("mean", "deviation", "difference"), _values(_by_name(sweep).get(name)), strict=True))
                for label, sweep in sweeps.items()
            }}
            for group, names in _groups(sweeps).items() for name in names
        ],
        "published": _printed(sweeps),
        "rank_correlations": [
            {"between": list(pair), **(asdict(ranks) if ranks else {"rho": None})}
            for pair, ranks in _correlations(sweeps).items()
        ],
    }  # fmt: skip
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
