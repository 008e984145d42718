"""``metaformer export``: export a trained model for an inference engine. torch is imported inside the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console
from rich.table import Table

from ..recipe import DataConfig
from .flags import AsJson, ModelName, data_config, nested, option, switch, with_flags

if TYPE_CHECKING:
    from ..deploy.export import Export


@with_flags(DataConfig, "data.", "Data", defaults=False)
def export(
    *,
    weights: Annotated[str | None, option("Run folder, weights file, hub id or model name.")] = None,
    out: Annotated[Path, option("Output folder, created once the exported model's outputs are checked.")],
    format: Annotated[
        Literal["onnx", "openvino", "torch", "aot", "safetensors"],
        option("ONNX, OpenVINO IR, a torch.export program, an AOTInductor package or plain weights."),
    ] = "onnx",
    precision: Annotated[
        Literal["fp32", "bf16", "int8"],
        option("int8 is calibrated on training images of --data or of the run.", "--precision"),
    ] = "fp32",
    model: ModelName = None,
    size: Annotated[
        tuple[int, int] | None,
        option("Height and width of a classifier's images.", negative=(), show_default=False),
    ] = None,
    overwrite: Annotated[bool, switch("Replace the export in the folder.")] = False,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Export a trained model for an inference engine.

    The exported model is read back and compared with the original on images of --data or of the run's evaluation. If
    they are labeled, the metrics before and after are printed.
    """
    from ..deploy.export import export as export_model

    result = export_model(
        weights,
        out,
        format=format,
        precision=precision,
        name=model,
        data=data_config(weights, nested(flags).get("data", {})),
        size=size,
        overwrite=overwrite,
    )
    if as_json:
        print(json.dumps(_plain(result)))
    else:
        _print(result)


def _plain(result: Export) -> dict[str, Any]:
    info = result.info
    shown = {"folder": str(result.folder), "format": info.format, "precision": info.precision}
    return {**shown, **result.comparison.to_dict(), "notes": list(info.notes)}


def _print(result: Export) -> None:
    from ..render.numbers import metric_text
    from ..tasks.task import task_named

    info, console = result.info, Console(highlight=False)
    comparison = result.comparison
    console.print(
        f"[bold]{info.format} {info.precision}[/], largest difference {comparison.difference:.1e} of the largest "
        f"output ({comparison.images} images)"
    )
    if comparison.before:
        defined = {metric.name: metric for metric in task_named(info.model.task).metrics}
        table = Table(box=None, pad_edge=False)
        for column in ("", "before", "after"):
            table.add_column(column, justify="right" if column else "left")
        for name, before in comparison.before.items():
            metric = defined[name]
            table.add_row(metric.label, metric_text(metric, before), metric_text(metric, comparison.after[name]))
        console.print(table)
    console.print(f"written  {result.folder}", markup=False, soft_wrap=True)
    console.print(f"use it   metaformer.load_exported({str(result.folder)!r})", markup=False, soft_wrap=True)
