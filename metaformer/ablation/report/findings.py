"""What a sweep found, in sentences built from its numbers, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence

from .formatting import accuracy, correlation, listed, plural, points
from .results import SweepResults, SweepRow
from .statistics import SIGNIFICANCE


def told(sweep: SweepResults) -> list[str]:
    """The answer, a sentence each, the most important first."""
    if sweep.base.summary.mean is None:
        return [f"{sweep.base.name}, which everything is compared with, has no result yet: nothing can be said."]
    said = [_base(sweep.base), *_verdicts(sweep), *_against_parts(sweep), *_broken(sweep), *_ranks(sweep)]
    return [*said, *_few_seeds(sweep)]


def _base(base: SweepRow) -> str:
    seeds = plural(base.summary.number, "seed")
    broken = f"; {base.notes[0]}" if base.broken else ""
    name = "The base" if base.name == "base" else f"{base.name}, the base,"
    return f"{name} reaches {accuracy(base)} % over {seeds}{broken}."


def _verdicts(sweep: SweepResults) -> list[str]:
    """Which changes matter, which may, which cannot be told from chance."""
    rows = [row for row in sweep.changes if row.difference is not None]
    tested = [row for row in rows if row.difference and row.difference.p_holm is not None]
    sure = [row for row in tested if _sure(row)]
    likely = [row for row in tested if not _sure(row) and _clear_alone(row)]
    noise = [row for row in tested if not _sure(row) and not _clear_alone(row)]
    said = []
    if tested:
        changes = plural(len(tested), "change")
        said.append(f"{len(sure)} of {changes} make a difference that holds after Holm's correction.{_signs(sure)}")
    if likely:
        said.append(
            f"Clear taken alone (the 95 % interval leaves out zero) but not after the correction: {_named(likely)}."
        )
    if noise:
        said.append(f"Within the noise of the seeds: {_named(noise)}.")
    same = [row for row in rows if row.difference and row.difference.pairs > 1 and row not in tested]
    if same:
        said.append(f"Without spread on the seeds, so that no test can be made: {_named(same)}.")
    return said


def _sure(row: SweepRow) -> bool:
    return row.difference is not None and (row.difference.p_holm or 0) < SIGNIFICANCE


def _clear_alone(row: SweepRow) -> bool:
    return row.difference is not None and (row.difference.p or 0) < SIGNIFICANCE


def _signs(rows: Sequence[SweepRow]) -> str:
    groups = {"Worse": [r for r in rows if _mean(r) < 0], "Better": [r for r in rows if _mean(r) > 0]}
    return "".join(f" {word}: {_named(group)}." for word, group in groups.items() if group)


def _named(rows: Sequence[SweepRow]) -> str:
    """Names with their differences, the largest first."""
    ordered = sorted(rows, key=lambda row: -abs(_mean(row)))
    return "; ".join(f"{row.name} ({points(_mean(row))})" for row in ordered)  # a name may have commas


def _mean(row: SweepRow) -> float:
    return row.difference.mean if row.difference is not None else 0.0


def _against_parts(sweep: SweepResults) -> list[str]:
    """Other token mixers beside an architecture that lacks a part."""
    mixers = sorted((r for r in sweep.changes if r.kind == "mixer" and r.difference), key=_mean)
    without = [row for row in sweep.changes if row.kind == "without" and row.difference]
    said = []
    if len(mixers) > 1:
        said.append(
            f"Over {plural(len(mixers), 'other choice')} of token mixer the accuracy moves between "
            f"{points(_mean(mixers[0]))} ({mixers[0].name}) and {points(_mean(mixers[-1]))} points ({mixers[-1].name})"
        )
    elif mixers:
        said.append(f"With {mixers[0].name} as token mixer the accuracy moves by {points(_mean(mixers[0]))} points")
    if without:
        parts = [f"{points(_mean(row))} without {listed(row.without)}" for row in without]
        said.append(f"taking a part of the architecture away moves it by {listed(parts)}")
    if not said:
        return []
    sentence = "; ".join(said)
    return [f"{sentence[0].upper()}{sentence[1:]}."]


def _broken(sweep: SweepResults) -> list[str]:
    rows = [row for row in sweep.changes if row.broken]
    if not rows:
        return []
    counts = [f"{row.name} ({row.broken} of {len(row.accuracies)})" for row in rows]
    return [f"Training broke down for {listed(counts)}; such a run counts as chance, {sweep.files.chance:g} %."]


def _ranks(sweep: SweepResults) -> list[str]:
    if sweep.ranks is None:
        return []
    return [f"Against the order of the published accuracies, Spearman's ρ is {correlation(sweep.ranks)}."]


def _few_seeds(sweep: SweepResults) -> list[str]:
    if len(sweep.files.seeds) > 1:
        return []
    return ["One seed: there is no deviation, no interval and no test, and a small difference may be chance."]
