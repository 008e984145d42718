"""Several sweeps side by side: their folders in; a page, its figure, comparison.csv and comparison.json out.

Variants are matched by name. Sweeps of different data or tasks are compared by the order of their variants. Values are
of each sweep's primary metric, shares in percent.
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
from ..folder import is_sweep
from .formatting import column, correlation, digits_of, heading, interval, listed, mean_text, plural, points
from .plots import side_by_side
from .results import SweepResults, SweepRow, read_results
from .statistics import RankCorrelation, rank_correlation

FOLDER = "comparison"
"""Where the comparison is written in the first sweep's folder."""

Sweeps = Mapping[str, SweepResults]
"""Sweeps by label, in the order they were given."""


def write_sweep_comparison(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the comparison of two or more sweeps; returns the path of report.html.

    Raises:
        RunError: fewer than two sweeps, one given twice, no variant in common, a damaged file, or an output folder
            that contains a run or a sweep.
    """
    _expect_different(folders)
    out = out or folders[0] / FOLDER
    if is_sweep(out) or (out / "config.json").is_file():
        raise RunError(f"{out} contains a run or a sweep, whose report would be lost; choose another folder with --out")
    labels = _labels(folders)
    sweeps = {label: read_results(folder) for label, folder in zip(labels, folders, strict=True)}
    if not _shared(sweeps):
        raise RunError(f"{listed(labels)} have no variant in common; give sweeps of one plan, or of plans that overlap")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "comparison.csv").write_text(_csv(sweeps), encoding="utf-8")
        (out / "comparison.json").write_text(_json(sweeps), encoding="utf-8")
        return write_page(out / "report.html", "sweep_comparison.html.j2", _context(sweeps, out), __package__)
    except OSError as error:
        raise RunError(f"{out}: the comparison cannot be written ({error.strerror})") from None


def _expect_different(folders: Sequence[Path]) -> None:
    paths = [folder.resolve() for folder in folders]
    if len(paths) < 2:
        raise RunError(f"a comparison needs two or more sweeps, got {plural(len(paths), 'folder')}")
    if len(set(paths)) < len(paths):
        raise RunError("a sweep was given twice; give each folder once")


def _labels(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with their parents' if two are the same."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    longer = [f"{folder.resolve().parent.name}/{name}" for folder, name in zip(folders, names, strict=True)]
    return longer if len(set(longer)) == len(longer) else [str(folder) for folder in folders]


def _groups(sweeps: Sweeps) -> dict[str, list[str]]:
    """Every variant's name once, by its group in the first sweep that has it."""
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


def _published(sweeps: Sweeps) -> dict[str, float]:
    """Published numbers by variant, of the first sweep that has them."""
    published: dict[str, float] = {}
    for sweep in sweeps.values():
        for row in sweep.rows:
            if row.variant.published is not None:
                published.setdefault(row.name, row.variant.published)
    return published


def _correlations(sweeps: Sweeps) -> dict[tuple[str, str], RankCorrelation | None]:
    """Of every two sweeps, over the variants that both have results for, and of each with the published numbers."""
    # The sign makes more better everywhere, so that a loss and an accuracy that agree have a positive correlation.
    signs = {label: 1 if sweep.metric.better == "higher" else -1 for label, sweep in sweeps.items()}
    columns = {
        label: {row.name: signs[label] * row.summary.mean for row in sweep.rows if row.summary.mean is not None}
        for label, sweep in sweeps.items()
    }
    if published := _published(sweeps):
        sign = next(signs[label] for label, sweep in sweeps.items() if sweep.has_published)
        columns["published"] = {name: sign * value for name, value in published.items()}
    found = {}
    for a, b in combinations(columns, 2):
        shared = [name for name in columns[a] if name in columns[b]]
        found[a, b] = rank_correlation([columns[a][name] for name in shared], [columns[b][name] for name in shared])
    return found


def _context(sweeps: Sweeps, out: Path) -> dict[str, Any]:
    groups, published = _groups(sweeps), _published(sweeps)
    figure = side_by_side(sweeps, groups, published)
    table = [
        {"title": group, "rows": [_table_row(name, sweeps, published) for name in names]}
        for group, names in groups.items()
    ]
    return {
        "title": f"{len(sweeps)} sweeps side by side",
        "labels": list(sweeps),
        "headings": [heading(sweep.metric) for sweep in sweeps.values()],
        "findings": _findings(sweeps),
        "groups": table,
        "has_print": bool(published),
        "correlations": [_correlation_row(pair, ranks) for pair, ranks in _correlations(sweeps).items()],
        "figure": drawing(figure, "Every variant and sweep", out / "variants.png"),
        "sweeps": [_setting(label, sweep) for label, sweep in sweeps.items()],
    }


def _table_row(name: str, sweeps: Sweeps, published: Mapping[str, float]) -> dict[str, Any]:
    cells = [_cell(_by_name(sweep).get(name)) for sweep in sweeps.values()]
    return {"name": name, "cells": cells, "published": f"{published[name]:.1f}" if name in published else DASH}


def _cell(row: SweepRow | None) -> dict[str, Any]:
    if row is None:
        return {"value": DASH, "difference": "", "interval": "", "notes": [], "color": ""}
    difference, digits = row.difference, digits_of(row.metric)
    color = ("better" if row.is_better else "worse") if row.is_significant else ""
    text = "base" if row.kind == "base" else points(difference.mean, digits) if difference else ""
    return {
        "value": mean_text(row.summary, digits), "difference": text, "interval": interval(difference, digits),
        "notes": row.notes,
        "color": color,
    }  # fmt: skip


def _correlation_row(pair: tuple[str, str], ranks: RankCorrelation | None) -> tuple[str, str]:
    return f"{pair[0]} and {pair[1]}", "too few variants in common" if ranks is None else f"ρ = {correlation(ranks)}"


def _findings(sweeps: Sweeps) -> list[str]:
    """How far the sweeps agree, from their numbers."""
    sentences = [
        f"Between {a} and {b}, Spearman's ρ is {correlation(ranks)}."
        for (a, b), ranks in _correlations(sweeps).items()
        if ranks is not None
    ]
    signs = {name: {_significant_sign(_by_name(sweep)[name]) for sweep in sweeps.values()} for name in _shared(sweeps)}
    for word, sign in (("worse", -1), ("better", 1)):
        if names := [name for name, seen in signs.items() if seen == {sign}]:
            sentences.append(f"Significantly {word} than the baseline in every sweep: {'; '.join(names)}.")
    if names := [name for name, seen in signs.items() if {-1, 1} <= seen]:
        sentences.append(f"Significantly better in one sweep and significantly worse in another: {'; '.join(names)}.")
    bases = {sweep.files.plan.base for sweep in sweeps.values()}
    if len(bases) > 1:
        sentences.append(
            f"The sweeps have different baselines ({listed(sorted(bases))}); each difference is to the sweep's own."
        )
    return sentences


def _significant_sign(row: SweepRow) -> int:
    """1 if the variant is significantly better after Holm's correction, −1 if worse, else 0."""
    if row.difference is None or not row.is_significant:
        return 0
    return 1 if row.is_better else -1


def _setting(label: str, sweep: SweepResults) -> dict[str, str]:
    plan, (done, planned) = sweep.files.plan, sweep.done
    return {
        "label": label, "title": sweep.files.title, "data": plan.data.source or DASH, "seeds": str(len(plan.seeds)),
        "runs": str(done) if done == planned else f"{done} of {planned}", "command": plan.command or DASH,
    }  # fmt: skip


def _csv(sweeps: Sweeps) -> str:
    """A line per variant: mean, deviation and difference of each sweep, then the published number."""
    text, published = io.StringIO(), _published(sweeps)
    writer = csv.writer(text, lineterminator="\n")
    heads = [
        f"{label} {name}"
        for label, sweep in sweeps.items()
        for name in (column(sweep.metric), f"{sweep.metric.name}_deviation", "difference")
    ]
    writer.writerow(["variant", "group", *heads, "published"])
    for group, names in _groups(sweeps).items():
        for name in names:
            values = [value for sweep in sweeps.values() for value in _values(_by_name(sweep).get(name))]
            writer.writerow([name, group, *values, published.get(name)])
    return text.getvalue()


def _values(row: SweepRow | None) -> list[float | None]:
    if row is None:
        return [None] * 3
    return [row.summary.mean, row.summary.deviation, row.difference.mean if row.difference else None]


def _json(sweeps: Sweeps) -> str:
    document = {
        "format": 2,
        "sweeps": [_setting(label, sweep) for label, sweep in sweeps.items()],
        "variants": [
            {"name": name, "group": group, "sweeps": {
                label: dict(zip(("mean", "deviation", "difference"), _values(_by_name(sweep).get(name)), strict=True))
                for label, sweep in sweeps.items()
            }}
            for group, names in _groups(sweeps).items() for name in names
        ],
        "published": _published(sweeps),
        "rank_correlations": [
            {"between": list(pair), **(asdict(ranks) if ranks else {"rho": None})}
            for pair, ranks in _correlations(sweeps).items()
        ],
    }  # fmt: skip
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
