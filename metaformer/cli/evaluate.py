"""``metaformer eval``: evaluate a trained model on a dataset. torch is imported inside the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.table import Table

from ..recipe import DataConfig
from .flags import AsJson, BatchSize, Device, ModelName, Weights, data_config, nested, option, with_flags


@with_flags(DataConfig, "data.", "Data", defaults=False)
def evaluate(
    weights: Weights = None,
    *,
    model: ModelName = None,
    part: Annotated[
        Literal["val", "train", "all"] | None,
        option("Split to evaluate on. [default: val; all for a dataset without a validation split]"),
    ] = None,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    out: Annotated[Path | None, option("Folder for evaluation.json and plots. [default: none are written]")] = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Evaluate a trained model, on the dataset of its run unless --data names another."""
    from ..run import evaluate as evaluation

    if out is not None:
        evaluation.expect_report_folder(out)
    data = data_config(weights, nested(flags).get("data", {}))
    result = evaluation.evaluate(weights, data, model=model, part=part, batch_size=batch_size, device=device)
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
