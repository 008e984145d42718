"""What a sweep found, in sentences built from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from ...render.numbers import capital
from .formatting import correlation, digits_of, listed, mean_text, plural, points, unit
from .results import SweepResults, SweepRow
from .table import counts_as


def findings(sweep: SweepResults) -> list[str]:
    """What the sweep found, a sentence each, the most important first."""
    base = sweep.base
    if base.summary.mean is None:
        return [f"{base.name}, which all variants are compared with, has no result yet."]
    name = "the base" if base.name == "base" else f"the base, {base.name},"
    value = f"{mean_text(base.summary, digits_of(sweep.metric))}{unit(sweep.metric)}"
    notes = f"; {base.notes[0]}" if base.diverged else ""
    sentences = [
        f"{capital(sweep.metric.label)} of {name} is {value} over {plural(base.summary.number, 'seed')}{notes}."
    ]
    sentences += [*_significance(sweep), *_mixers_and_parts(sweep)]
    if rows := [row for row in sweep.changes if row.diverged]:
        counts = [f"{row.name} ({row.diverged} of {sum(run.finished for run in row.runs)})" for row in rows]
        sentences.append(f"Training diverged for {listed(counts)}; such a run {counts_as(sweep)}.")
    if sweep.ranks is not None:
        sentences.append(f"Against the order of the published numbers, Spearman's ρ is {correlation(sweep.ranks)}.")
    if len(sweep.files.plan.seeds) == 1:
        sentences.append(
            "One seed: there is no deviation, no interval and no test, and a small difference may be chance."
        )
    return sentences


def _significance(sweep: SweepResults) -> list[str]:
    """Which changes matter, which may matter, and which are within the spread of the seeds."""
    rows = {row.name: row.difference for row in sweep.changes if row.difference is not None}
    tested = [row for row in sweep.changes if row.difference is not None and row.difference.p_holm is not None]
    significant = [row for row in tested if row.is_significant]
    unclear = [
        row for row in tested if not row.is_significant and row.difference and row.difference.is_significant_alone
    ]
    sentences = []
    if tested:
        worse = [row for row in significant if not row.is_better]
        better = [row for row in significant if row.is_better]
        named = "".join(
            f" {word}: {_with_differences(group)}." for word, group in (("Worse", worse), ("Better", better)) if group
        )
        sentences.append(
            f"{len(significant)} of {plural(len(tested), 'change')} make a significant difference after Holm's "
            f"correction.{named}"
        )
    if unclear:
        sentences.append(
            "Significant alone (the 95 % interval excludes zero) but not after the correction: "
            f"{_with_differences(unclear)}."
        )
    if noise := [row for row in tested if row not in significant and row not in unclear]:
        sentences.append(f"Within the spread of the seeds: {_with_differences(noise)}.")
    same = [row for row in sweep.changes if row.name in rows and rows[row.name].pairs > 1 and row not in tested]
    if same:
        sentences.append(f"The same difference on every seed, so that no test is possible: {_with_differences(same)}.")
    return sentences


def _with_differences(rows: Sequence[SweepRow]) -> str:
    """Names with their differences, the largest first; separated by semicolons, since a name may have commas."""
    ordered = sorted(rows, key=lambda row: -abs(_mean(row)))
    return "; ".join(f"{row.name} ({_difference(row)})" for row in ordered)


def _difference(row: SweepRow) -> str:
    return points(_mean(row), digits_of(row.metric))


def _mean(row: SweepRow) -> float:
    return row.difference.mean if row.difference is not None else 0.0


def _mixers_and_parts(sweep: SweepResults) -> list[str]:
    """How much other token mixers change, and how much the removal of a part."""
    mixers = sorted((row for row in sweep.changes if row.kind == "mixer" and row.difference), key=_mean)
    without = [row for row in sweep.changes if row.kind == "without" and row.difference]
    label, end = sweep.metric.label, " points" if sweep.metric.unit == "share" else ""
    clauses = []
    if len(mixers) > 1:
        clauses.append(
            f"with {plural(len(mixers), 'other choice')} of token mixer, {label} changes by {_difference(mixers[0])} "
            f"({mixers[0].name}) to {_difference(mixers[-1])}{end} ({mixers[-1].name})"
        )
    elif mixers:
        clauses.append(f"with {mixers[0].name} as token mixer, {label} changes by {_difference(mixers[0])}{end}")
    if without:
        parts = [f"{_difference(row)} without {listed(row.without)}" for row in without]
        clauses.append(f"removing a part of the architecture changes {label} by {listed(parts)}")
    sentence = "; ".join(clauses)
    return [f"{sentence[0].upper()}{sentence[1:]}."] if sentence else []
