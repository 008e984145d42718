"""What came out of a sweep: its files in; one row a variant with its statistics, the rank correlation and the cost out.

A run that broke down counts with the accuracy of guessing, in means, differences and ranks. Accuracies are top-1 in
percent, differences percentage points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ...run.report.files import RunFiles
from ...run.report.results import training_seconds
from .files import SweepFiles, SweepRun, SweepVariant, part
from .statistics import Difference, RankCorrelation, Summary, holm, paired, rank_correlation, summary

Kind = Literal["base", "mixer", "without", "other"]


@dataclass(frozen=True)
class SweepRow:
    """One variant over its seeds."""

    variant: SweepVariant
    runs: tuple[SweepRun, ...]
    kind: Kind
    """The base; another token mixer; a part of the architecture taken away; any other change."""
    without: tuple[str, ...]
    """The parts taken away."""
    summary: Summary
    difference: Difference | None
    """To the base; None for the base itself and where no seed has both."""
    published_difference: float | None
    """The same in print."""

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.name

    @property
    def accuracies(self) -> dict[int, float]:
        """By seed, of the runs that have a result."""
        return {run.seed: run.accuracy for run in self.runs if run.accuracy is not None}

    @property
    def broken(self) -> int:
        """How many runs broke down."""
        return sum(run.broke_down is not None for run in self.runs)

    @property
    def all_broken(self) -> bool:
        """Whether every run with a result broke down."""
        return bool(self.broken) and self.broken == len(self.accuracies)

    @property
    def notes(self) -> list[str]:
        """What has to be known beside the numbers."""
        planned, done = len(self.runs), len(self.accuracies)
        told = [f"{self.broken} of {done} broke down"] if self.broken else []
        if done == planned:
            return told
        return [*told, f"{done} of {planned} runs" if done else "no result yet"]

    @cached_property
    def files(self) -> list[RunFiles]:
        """The run folders that are there."""
        return [run.files for run in self.runs if run.files is not None]

    @property
    def parameters(self) -> int | None:
        """Trained and frozen ones, as config.json counts them."""
        return self._count("parameters")

    @property
    def macs(self) -> int | None:
        """Multiply-adds for one image."""
        return self._count("macs")

    def _count(self, name: str) -> int | None:
        found = [getattr(files.config, name) for files in self.files if files.config is not None]
        return int(found[0]) if found else None

    @property
    def training_speed(self) -> float | None:
        """Training images a second: the median over epochs and seeds."""
        return self._median("samples_per_second")

    @property
    def inference_speed(self) -> float | None:
        """Evaluated images a second, likewise; None where that was not recorded."""
        return self._median("evaluation_samples_per_second")

    def _median(self, column: str) -> float | None:
        values = np.concatenate([np.empty(0), *(files.metrics.column(column) for files in self.files)])
        values = values[np.isfinite(values)]
        return float(np.median(values)) if len(values) else None


@dataclass(frozen=True)
class Cost:
    """What a sweep took, in seconds."""

    worker: float
    """Of all workers together, on runs that came to an end."""
    wall: float
    """From start to end, all sessions together."""
    epochs: float
    """Of the epochs of all runs: training and the evaluation after each."""
    offered: float
    """Workers times wall time, all sessions together."""

    @property
    def overhead(self) -> float | None:
        """The share of the workers' time that went into no epoch; None without a journal."""
        return 1 - self.epochs / self.offered if self.offered > 0 else None


@dataclass(frozen=True)
class SweepResults:
    """A sweep, computed."""

    files: SweepFiles
    rows: tuple[SweepRow, ...]
    """In the order of the plan."""
    ranks: RankCorrelation | None
    """Between mean accuracies and those in print, of the variants that have both; None with too few."""
    cost: Cost

    @property
    def base(self) -> SweepRow:
        """The row all others are compared with."""
        return next(row for row in self.rows if row.name == self.files.base)

    @property
    def changes(self) -> list[SweepRow]:
        """All rows but the base."""
        return [row for row in self.rows if row.name != self.files.base]

    @property
    def groups(self) -> dict[str, list[SweepRow]]:
        """Rows by group, both in the plan's order."""
        groups: dict[str, list[SweepRow]] = {}
        for row in self.rows:
            groups.setdefault(row.variant.group, []).append(row)
        return groups

    @property
    def compared_with_print(self) -> list[SweepRow]:
        """Rows that have a result and a published number."""
        return [row for row in self.rows if row.summary.mean is not None and row.variant.published is not None]

    @property
    def done(self) -> tuple[int, int]:
        """Runs with a result, and planned ones."""
        return self.files.done, len(self.files.runs)


def gathered(files: SweepFiles) -> SweepResults:
    """Every row's statistics, over the seeds that are there."""
    accuracies = {name: _accuracies(runs) for name, runs in files.of_variant.items()}
    others = {name: values for name, values in accuracies.items() if name != files.base}
    found = {name: paired(values, accuracies[files.base]) for name, values in others.items()}
    differences = holm({name: difference for name, difference in found.items() if difference is not None})
    rows = tuple(_row(files, variant, accuracies[variant.name], differences) for variant in files.variants)
    return SweepResults(files, rows, _ranks(rows), _cost(files))


def _accuracies(runs: Sequence[SweepRun]) -> dict[int, float]:
    return {run.seed: run.accuracy for run in runs if run.accuracy is not None}


def _row(
    files: SweepFiles, variant: SweepVariant, accuracies: Mapping[int, float], differences: Mapping[str, Difference]
) -> SweepRow:
    base = next(other for other in files.variants if other.name == files.base)
    is_base = variant.name == base.name
    without = () if is_base else parts_missing(variant.spec, base.spec)
    kind: Kind = "base" if is_base else "without" if without else "mixer" if _mixers_differ(variant, base) else "other"
    in_print = None
    if not is_base and variant.published is not None and base.published is not None:
        in_print = variant.published - base.published
    return SweepRow(
        variant=variant,
        runs=files.of_variant[variant.name],
        kind=kind,
        without=without,
        summary=summary(list(accuracies.values())),
        difference=differences.get(variant.name),
        published_difference=in_print,
    )


def parts_missing(spec: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[str, ...]:
    """Parts that every stage of the base has and some stage of the other model has not."""
    checks = {
        "norm": lambda stage: (stage.get("norm") or {}).get("kind", "none") != "none",
        "residual connections": lambda stage: (stage.get("residual") or {}).get("on", True),
        "channel MLP": lambda stage: stage.get("mlp") is not None,
    }
    stages, of_base = spec.get("stages") or (), base.get("stages") or ()
    return tuple(name for name, has in checks.items() if all(map(has, of_base)) and not all(map(has, stages)))


def _mixers_differ(variant: SweepVariant, base: SweepVariant) -> bool:
    def mixers(spec: Mapping[str, Any]) -> list[Any]:
        return [stage.get("mixer") for stage in spec.get("stages") or ()]

    return mixers(variant.spec) != mixers(base.spec)


def _ranks(rows: Sequence[SweepRow]) -> RankCorrelation | None:
    both = [(row.summary.mean, row.variant.published) for row in rows]
    pairs = [(mean, published) for mean, published in both if mean is not None and published is not None]
    return rank_correlation([mean for mean, _ in pairs], [published for _, published in pairs])


def _cost(files: SweepFiles) -> Cost:
    runs = [run.files for run in files.runs if run.files is not None]
    return Cost(
        worker=files.worker_seconds,
        wall=sum(session.seconds for session in files.sessions),
        epochs=sum(training_seconds(run.metrics) or 0.0 for run in runs),
        offered=sum(session.workers * session.seconds for session in files.sessions),
    )


def results(sweep: SweepResults) -> dict[str, Any]:
    """Everything that depends on no clock: two sweeps with the same outcome give the same, digit for digit."""
    files = sweep.files
    return {
        "unit": "top-1 in percent; differences in percentage points",
        "base": files.base,
        "seeds": list(files.seeds),
        "classes": len(part(files.plan, "data")["classes"]),
        "chance": files.chance,
        "runs": {"finished": sweep.done[0], "planned": sweep.done[1]},
        "variants": [_row_results(row) for row in sweep.rows],
        "rank_correlation_with_published": _plain(sweep.ranks),
    }


def _row_results(row: SweepRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "group": row.variant.group,
        "parameters": row.parameters,
        "macs": row.macs,
        "accuracies": {str(seed): accuracy for seed, accuracy in row.accuracies.items()},
        "broke_down": [run.seed for run in row.runs if run.broke_down is not None],
        "mean": row.summary.mean,
        "deviation": row.summary.deviation,
        "difference": _plain(row.difference),
        "published": row.variant.published,
        "published_difference": row.published_difference,
    }


def _plain(record: Difference | RankCorrelation | None) -> dict[str, Any] | None:
    """As JSON gives it back: lists, not tuples."""
    if record is None:
        return None
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(record).items()}
