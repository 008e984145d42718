"""``metaformer export``: a trained model to files for an engine, checked before it is called done; torch is imported
inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.table import Table

from ..recipe import DataConfig
from .flags import data_of, nested, option, switch, with_flags


@with_flags(DataConfig, "data.", "Data", defaults=False)
def export(
    *,
    weights: Annotated[str | None, option("A run's folder, a weights file, a hub id or a published model.")] = None,
    out: Annotated[Path, option("Folder to write; it appears once its answers are those of the original.")],
    format: Annotated[
        Literal["onnx", "openvino", "torch", "aot", "safetensors"],
        option("onnx, OpenVINO's IR, a torch.export program, AOTInductor's machine code, or the plain weights."),
    ] = "onnx",
    precision: Annotated[
        Literal["fp32", "bf16", "int8"],
        option("int8 is fitted to training images of --data, or of the run.", "--precision"),
    ] = "fp32",
    model: Annotated[str | None, option("A row of the zoo: for published weights and files of others.")] = None,
    size: Annotated[
        tuple[int, int] | None, option("Height and width of a classifier's images.", negative=(), show_default=False)
    ] = None,
    overwrite: Annotated[bool, switch("Replace the export in the folder.")] = False,
    as_json: Annotated[bool, switch("Print one JSON document.", "--json")] = False,
    **flags: Any,
) -> None:
    """Write a trained model for an engine.

    What was written is read from the disk again and compared with the original on images of --data, or on those the
    run was judged on; with labels its figures stand before and after.
    """
    from ..deploy import export as exporting

    result = exporting.export(
        weights,
        out,
        format=format,
        precision=precision,
        name=model,
        data=data_of(weights, nested(flags).get("data", {})),
        size=size,
        overwrite=overwrite,
    )
    if as_json:
        print(json.dumps(_plain(result)))
    else:
        _print(result)


def _plain(result: Any) -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "format": result.format,
        "precision": result.precision,
        "difference": result.difference,
        "images": result.images,
        "before": dict(result.before),
        "after": dict(result.after),
        "notes": list(result.notes),
    }


def _print(result: Any) -> None:
    from ..render.numbers import metric_text

    console = Console(highlight=False)
    console.print(
        f"[bold]{result.format} {result.precision}[/], largest difference {result.difference:.1e} of the largest value "
        f"({result.images} images)"
    )
    if result.before:
        from ..tasks.task import task_named

        defined = {metric.name: metric for metric in task_named(result.task).metrics}
        table = Table(box=None, pad_edge=False)
        for column in ("", "before", "after"):
            table.add_column(column, justify="right" if column else "left")
        for name, before in result.before.items():
            metric = defined[name]
            table.add_row(metric.label, metric_text(metric, before), metric_text(metric, result.after[name]))
        console.print(table)
    console.print(f"written  {result.folder}", markup=False, soft_wrap=True)
    console.print(f"use it   metaformer.load_exported({str(result.folder)!r})", markup=False, soft_wrap=True)
