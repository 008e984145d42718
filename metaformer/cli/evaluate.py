"""``metaformer eval``: measure a trained model on a dataset. torch is imported inside the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.table import Table

from ..recipe import DataConfig
from .flags import Device, at_least_one, data_of, nested, option, switch, with_flags


@with_flags(DataConfig, "data.", "Data", defaults=False)
def evaluate(
    weights: Annotated[str | None, option("A run's folder, a weights file or a hub id.")] = None,
    *,
    model: Annotated[str | None, option("A row of the zoo: for published weights and files of others.")] = None,
    part: Annotated[
        Literal["val", "train", "all"] | None,
        option(
            "Which images: the held-out ones, the others, all [default: val; all of a folder without a val/ that is "
            "not the run's own].",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, option("Images at a time.")] = 64,
    device: Annotated[Device, option("Where to compute.")] = "auto",
    out: Annotated[Path | None, option("Folder for evaluation.json and images; nothing is written else.")] = None,
    as_json: Annotated[bool, switch("Print one JSON document.", "--json")] = False,
    **flags: Any,
) -> None:
    """Measure a trained model on images; on those of its run where none are named."""
    from ..run import evaluate as evaluation

    choice = data_of(weights, nested(flags).get("data", {}))
    result = evaluation.evaluate(
        weights, choice, model=model, part=part, batch_size=at_least_one(batch_size), device=device
    )
    if out is not None:
        evaluation.write_report(result, out)
    if as_json:
        print(json.dumps({"metrics": dict(result.metrics), "images": result.images}))
        return
    from ..render.numbers import count, metric_text
    from ..tasks.task import task_named

    defined = {metric.name: metric for metric in task_named(result.task).metrics}

    table = Table(show_header=False, box=None)
    for name, value in result.metrics.items():
        table.add_row(defined[name].label, metric_text(defined[name], value))
    table.add_row("images", count(result.images))
    Console().print(table)
