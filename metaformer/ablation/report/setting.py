"""What a sweep was made of and what it cost, as table rows ready to print."""

from __future__ import annotations

from typing import Any

from ...render.numbers import count, duration, percent, plain
from ...run.report.setting import data_rows, machine_rows
from .files import part
from .formatting import plural, share
from .results import SweepResults
from .table import seen

Row = tuple[str, str]


def tiles(sweep: SweepResults) -> list[Row]:
    """The few figures that people look for first."""
    done, planned = sweep.done
    ranks = sweep.ranks
    return [
        ("Variants", count(len(sweep.rows))),
        ("Seeds", count(len(sweep.files.seeds))),
        ("Runs", count(done) if done == planned else f"{done} of {planned}"),
        ("Worker time", duration(sweep.cost.worker)),
        ("Overhead", share(sweep.cost.overhead)),
        *([("ρ with print", f"{ranks.rho:.2f}".replace("-", "−"))] if ranks else []),
    ]


def notes(sweep: SweepResults) -> list[str]:
    """What a reader has to know before the findings."""
    done, planned = sweep.done
    said = []
    if done < planned:
        said.append(f"This sweep is not finished: {done} of {planned} runs. What follows is of those runs.")
    said += [f"{run.key} has no result: {run.trouble}." for run in sweep.files.runs if run.trouble]
    for name, word in (("version", "versions of metaformer"), ("commit", "commits"), ("machine", "machines")):
        different = len(seen(sweep, name))
        if different > 1:
            said.append(f"The runs come from {different} different {word}.")
    return said


def cost_rows(sweep: SweepResults) -> list[Row]:
    """Hours of the workers, wall time, and what went into no epoch."""
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
    """Images and their preparation, as the first run there found them; before any, as the plan has them."""
    plan = part(sweep.files.plan, "data")
    config = next((run.files.config for run in sweep.files.runs if run.files and run.files.config), None)
    if config is None:
        rows = [("Source", plain(plan.get("source"))), ("Classes", count(len(plan["classes"])))]
    else:
        rows = data_rows(config)
    return [*rows, ("Chance", percent(sweep.files.chance / 100))]


def machines(sweep: SweepResults) -> list[Row]:
    """Version, commit and hardware of the runs; each that occurs."""
    rows: list[Row] = []
    for run in sweep.files.runs:
        if run.files is not None and run.files.config is not None:
            rows += machine_rows(run.files.config)
    # The version stands in every machine's rows; once is enough.
    unique = list(dict.fromkeys(rows))
    commits = seen(sweep, "commit")
    return [*unique[:1], ("Commit", plain(commits)), *unique[1:]] if commits else unique


def run_rows(sweep: SweepResults) -> list[dict[str, Any]]:
    """Every planned run: variant, seed, folder, state, accuracy."""
    return [
        {
            "variant": run.variant,
            "seed": run.seed,
            "folder": f"runs/{run.key}",
            "state": f"broke down: {run.broke_down}" if run.broke_down is not None else run.state,
            "failed": run.broke_down is not None,
            "accuracy": percent(None if run.accuracy is None else run.accuracy / 100),
        }
        for run in sweep.files.runs
    ]
