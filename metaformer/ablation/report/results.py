"""What came out of a sweep: its files in; one row per variant with its statistics, rank correlation and cost out.

A run that diverged counts with the value of guessing, in means, differences and ranks; where the metric has no such
value, it is counted and listed but has no part in them. Values are of the task's primary metric, shares in percent and
their differences in percentage points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...metrics import MetricDef
from ...run.report.files import RunFiles
from ...run.report.results import training_seconds
from ...spec.model import AnySpec, StageSpec
from ..plan import Variant
from .files import SweepFiles, SweepRun, read_sweep
from .statistics import Difference, RankCorrelation, Summary, holm, paired, rank_correlation, summary

Kind = Literal["base", "mixer", "without", "other"]


@dataclass(frozen=True)
class SweepRow:
    """One variant over its seeds."""

    variant: Variant
    metric: MetricDef
    runs: tuple[SweepRun, ...]
    kind: Kind
    """The base; another token mixer; a part of the architecture removed; any other change."""
    without: tuple[str, ...]
    """The removed parts."""
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
    def values(self) -> dict[int, float]:
        """Results by seed."""
        return {run.seed: run.value for run in self.runs if run.value is not None}

    @property
    def diverged(self) -> int:
        """How many runs diverged."""
        return sum(run.diverged is not None for run in self.runs)

    @property
    def is_significant(self) -> bool:
        """Whether the difference to the base is significant after Holm's correction."""
        return self.difference is not None and self.difference.is_significant

    @property
    def is_better(self) -> bool:
        """Whether the mean difference to the base is an improvement."""
        return self.difference is not None and self.metric.is_better(self.difference.mean, 0.0)

    @property
    def notes(self) -> list[str]:
        """What a reader needs to know beside the numbers."""
        planned, done = len(self.runs), sum(run.finished for run in self.runs)
        notes = [f"{self.diverged} of {done} diverged"] if self.diverged else []
        if done < planned:
            notes.append(f"{done} of {planned} runs" if done else "no result yet")
        return notes

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
        # Seeds share a model, so the first run that is there says it for all.
        found = [getattr(files.config, name) for files in self.files if files.config is not None]
        return int(found[0]) if found else None

    @property
    def training_speed(self) -> float | None:
        """Training images per second: the median over epochs and seeds."""
        return self._median("samples_per_second")

    @property
    def inference_speed(self) -> float | None:
        """Evaluated images per second, likewise; None where that was not recorded."""
        return self._median("evaluation_samples_per_second")

    def _median(self, column: str) -> float | None:
        values = np.concatenate([np.empty(0), *(files.metrics.column(column) for files in self.files)])
        values = values[np.isfinite(values)]
        return float(np.median(values)) if len(values) else None


@dataclass(frozen=True)
class Cost:
    """What a sweep took, in seconds."""

    worker: float
    """Of all workers together, on runs that have a result."""
    wall: float
    """From start to end, all sessions together."""
    epochs: float
    """Of the epochs of all runs: training and the evaluation after each."""
    offered: float
    """Workers times wall time, all sessions together."""

    @property
    def overhead(self) -> float | None:
        """The share of the workers' time that was spent outside epochs; None without a journal."""
        return 1 - self.epochs / self.offered if self.offered > 0 else None


@dataclass(frozen=True)
class SweepResults:
    """A sweep, computed."""

    files: SweepFiles
    rows: tuple[SweepRow, ...]
    """In the order of the plan."""
    ranks: RankCorrelation | None
    """Between measured means and published numbers, of the variants that have both; None with too few."""
    cost: Cost

    @property
    def metric(self) -> MetricDef:
        """The primary metric, by which the variants are compared."""
        return self.files.plan.metric

    @property
    def base(self) -> SweepRow:
        """The row that all others are compared with."""
        return next(row for row in self.rows if row.name == self.files.plan.base)

    @property
    def changes(self) -> list[SweepRow]:
        """All rows but the base."""
        return [row for row in self.rows if row.name != self.files.plan.base]

    @property
    def groups(self) -> dict[str, list[SweepRow]]:
        """Rows by group, both in the plan's order."""
        groups: dict[str, list[SweepRow]] = {}
        for row in self.rows:
            groups.setdefault(row.variant.group, []).append(row)
        return groups

    @property
    def with_published(self) -> list[SweepRow]:
        """Rows that have a result and a published number."""
        return [row for row in self.rows if row.summary.mean is not None and row.variant.published is not None]

    @property
    def has_published(self) -> bool:
        """Whether any variant has a published number."""
        return any(row.variant.published is not None for row in self.rows)

    @property
    def done(self) -> tuple[int, int]:
        """Runs with a result, and planned ones."""
        return self.files.done, len(self.files.runs)

    def to_dict(self) -> dict[str, Any]:
        """Everything that depends on no clock: two sweeps with the same outcome give the same, digit for digit."""
        files = self.files
        return {
            "metric": self.metric.to_dict(),
            "unit": "percent; differences in percentage points" if self.metric.unit == "share" else self.metric.unit,
            "base": files.plan.base,
            "seeds": list(files.plan.seeds),
            "classes": len(files.plan.data.classes),
            "chance": files.chance,
            "runs": {"finished": self.done[0], "planned": self.done[1]},
            "variants": [_row_to_dict(row) for row in self.rows],
            "rank_correlation_with_published": _to_dict(self.ranks),
        }


def read_results(folder: Path | str) -> SweepResults:
    """The results of the sweep in a folder.

    Raises:
        RunError: this is no sweep's folder, or its plan or journal is damaged.
    """
    return compute_results(read_sweep(folder))


def compute_results(files: SweepFiles) -> SweepResults:
    """Every row's statistics, over the seeds that are there."""
    values = {
        name: {run.seed: run.value for run in runs if run.value is not None} for name, runs in files.of_variant.items()
    }
    base = values[files.plan.base]
    found = {name: paired(own, base) for name, own in values.items() if name != files.plan.base}
    differences = holm({name: difference for name, difference in found.items() if difference is not None})
    rows = tuple(_row(files, variant, values[variant.name], differences) for variant in files.plan.variants)
    return SweepResults(files, rows, _ranks(rows), _cost(files))


def _row(
    files: SweepFiles, variant: Variant, values: Mapping[int, float], differences: Mapping[str, Difference]
) -> SweepRow:
    base = next(other for other in files.plan.variants if other.name == files.plan.base)
    is_base = variant.name == base.name
    without = () if is_base else parts_missing(variant.spec, base.spec)
    differs = variant.spec.mixers != base.spec.mixers
    kind: Kind = "base" if is_base else "without" if without else "mixer" if differs else "other"
    published = None
    if not is_base and variant.published is not None and base.published is not None:
        published = variant.published - base.published
    return SweepRow(
        variant=variant,
        metric=files.plan.metric,
        runs=files.of_variant[variant.name],
        kind=kind,
        without=without,
        summary=summary(list(values.values())),
        difference=differences.get(variant.name),
        published_difference=published,
    )


def parts_missing(spec: AnySpec, base: AnySpec) -> tuple[str, ...]:
    """Parts that every stage of the base has and some stage of the other model lacks."""

    def parts(stage: StageSpec) -> dict[str, bool]:
        return {
            "norm": stage.norm.kind != "none",
            "residual connections": stage.residual.on,
            "channel MLP": stage.mlp is not None,
        }

    # A CNN of timm has no stages that a plan could change.
    ours, theirs = ([parts(stage) for stage in getattr(one, "stages", ())] for one in (spec, base))
    names = theirs[0] if theirs else ()
    return tuple(n for n in names if all(stage[n] for stage in theirs) and not all(stage[n] for stage in ours))


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


def _row_to_dict(row: SweepRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "group": row.variant.group,
        "parameters": row.parameters,
        "macs": row.macs,
        "values": {str(seed): value for seed, value in row.values.items()},
        "diverged": [run.seed for run in row.runs if run.diverged is not None],
        "mean": row.summary.mean,
        "deviation": row.summary.deviation,
        "difference": _to_dict(row.difference),
        "published": row.variant.published,
        "published_difference": row.published_difference,
    }


def _to_dict(record: Difference | RankCorrelation | None) -> dict[str, Any] | None:
    """As JSON reads it back: lists, not tuples."""
    if record is None:
        return None
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(record).items()}
