"""What a sweep was made of and what it cost, as table rows ready to print."""

from __future__ import annotations

from typing import Any

from ...render.numbers import DASH, count, duration, metric_text, plain
from ...run.report.setting import data_rows, machine_rows
from .formatting import digits_of, plural, share, unit
from .results import SweepResults
from .table import distinct

Row = tuple[str, str]


def tiles(sweep: SweepResults) -> list[Row]:
    """The few numbers that people look for first."""
    done, planned = sweep.done
    ranks = sweep.ranks
    return [
        ("Variants", count(len(sweep.rows))),
        ("Seeds", count(len(sweep.files.plan.seeds))),
        ("Runs", count(done) if done == planned else f"{done} of {planned}"),
        ("Worker time", duration(sweep.cost.worker)),
        ("Overhead", share(sweep.cost.overhead)),
        *([("ρ with published", f"{ranks.rho:.2f}".replace("-", "−"))] if ranks else []),
    ]


def notes(sweep: SweepResults) -> list[str]:
    """What a reader needs to know before the findings."""
    done, planned = sweep.done
    sentences = []
    if done < planned:
        sentences.append(f"This sweep is not finished: it has results of {done} of {planned} runs.")
    sentences += [f"{run.key} has no result: {run.problem}." for run in sweep.files.runs if run.problem]
    for name, word in (("version", "versions of metaformer"), ("commit", "commits"), ("machine", "machines")):
        different = len(distinct(sweep, name))
        if different > 1:
            sentences.append(f"The runs come from {different} different {word}.")
    return sentences


def cost_rows(sweep: SweepResults) -> list[Row]:
    """Hours of the workers, wall time, and the share outside epochs."""
    cost, sessions = sweep.cost, sweep.files.sessions
    where = dict.fromkeys(f"{plural(s.workers, 'worker')} on {s.where or 'an unnamed machine'}" for s in sessions)
    return [
        ("Worker time", duration(cost.worker)),
        ("Wall time", duration(cost.wall)),
        ("Sessions", count(len(sessions))),
        ("Where", "; ".join(where) or plain(None)),
        ("Time in epochs", duration(cost.epochs)),
        ("Overhead", share(cost.overhead)),
    ]


def data(sweep: SweepResults) -> list[Row]:
    """Images and their preparation, from the first run that is there, or else from the plan."""
    plan = sweep.files.plan
    config = next((run.files.config for run in sweep.files.runs if run.files and run.files.config), None)
    rows = [("Source", plain(plan.data.source)), ("Classes", count(len(plan.data.classes)))]
    rows = rows if config is None else data_rows(config)
    return [*rows, ("Chance", metric_text(plan.metric, plan.chance))]


def machines(sweep: SweepResults) -> list[Row]:
    """Version, commit and hardware of the runs; each that occurs."""
    configs = [run.files.config for run in sweep.files.runs if run.files and run.files.config]
    unique = list(dict.fromkeys(row for config in configs for row in machine_rows(config)))
    commits = distinct(sweep, "commit")
    return [*unique[:1], ("Commit", plain(commits)), *unique[1:]] if commits else unique


def run_rows(sweep: SweepResults) -> list[dict[str, Any]]:
    """Every planned run: variant, seed, folder, state, value."""
    digits, sign = digits_of(sweep.metric), unit(sweep.metric)
    return [
        {
            "variant": run.variant,
            "seed": run.seed,
            "folder": f"runs/{run.key}",
            "state": f"diverged: {run.diverged}" if run.diverged is not None else run.state,
            "failed": run.diverged is not None,
            "value": DASH if run.value is None else f"{run.value:.{digits}f}{sign}",
        }
        for run in sweep.files.runs
    ]
