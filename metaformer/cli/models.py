"""``metaformer models``: list the models, compare them with the paper. Only the comparison imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from ..errors import InputError, did_you_mean
from .flags import option, switch

if TYPE_CHECKING:
    from ..zoo.published_model import PublishedModel


def models(
    pattern: Annotated[str, Parameter(help="Part of a name, or a pattern such as 'poolformer_*'.")] = "*",
    *,
    family: Annotated[str | None, option("Only this family, such as CAFormer.")] = None,
    pretrained: Annotated[bool, switch("Only models with published weights.")] = False,
    compare: Annotated[
        bool, switch("Print the paper's ImageNet table, with parameters and MACs as published and as counted.")
    ] = False,
    plot: Annotated[
        Path | None, option("With --compare: plot accuracy over MACs to an .svg or .png file, or to both.")
    ] = None,
    format: Annotated[Literal["table", "csv", "json", "markdown"], option("Output format.")] = "table",
) -> None:
    """List the models with their parameters, MACs and published ImageNet-1K top-1 accuracy."""
    from ..zoo.catalogue import CATALOGUE, list_models
    from ..zoo.tables import model_table as zoo_table

    names = list_models(pattern, family=family, pretrained=pretrained)
    if not names:
        raise InputError(f"no model matches {pattern!r}. {did_you_mean(pattern, CATALOGUE)}".rstrip())
    if compare:
        _compare([CATALOGUE[name] for name in names], plot, format)
        return
    if plot is not None:
        raise InputError("--plot needs --compare")
    rows = [_zoo_row(CATALOGUE[name]) for name in names]
    if format == "table":
        Console().print(zoo_table.zoo_table(rows))
        return
    write = {"csv": zoo_table.zoo_csv, "json": zoo_table.zoo_json, "markdown": zoo_table.zoo_markdown}[format]
    print(write(rows).rstrip("\n"))


def _compare(rows: Sequence[PublishedModel], plot: Path | None, format: str) -> None:
    """Print the ImageNet table of the first paper for these models, and plot it."""
    from rich.progress import track

    from ..zoo.tables import imagenet_table as table

    rows = table.in_paper_order(rows)
    if not rows:
        raise InputError(
            "none of these models is in the paper's ImageNet table; `metaformer models --compare` lists those that are"
        )
    files = _plot_files(plot) if plot is not None else []
    errors = Console(stderr=True, highlight=False)
    # Each model is built without storage and its operations are counted, which takes seconds.
    counted = track(
        table.count_models(rows), "counting", len(rows), console=errors, transient=True, disable=not errors.is_terminal
    )
    lines = list(counted)
    if format == "table":
        Console(highlight=False).print(table.comparison_table(lines))
    else:
        write = {"csv": table.comparison_csv, "json": table.comparison_json, "markdown": table.comparison_markdown}
        print(write[format](lines).rstrip("\n"))
    for file in files:
        from ..zoo.tables.imagenet_plot import write_plot

        try:
            write_plot(lines, file)
        except OSError as error:
            raise InputError(f"--plot: cannot write {file}: {error.strerror}") from None
        errors.print(f"plot  {file}", markup=False, soft_wrap=True)


def _plot_files(plot: Path) -> list[Path]:
    """The files to write. Their folder is created now, so that a wrong path is reported before anything is counted."""
    if plot.suffix not in ("", ".svg", ".png"):
        raise InputError(f"--plot: expected a file that ends in .svg or .png, or in neither for both, got {plot}")
    if plot.is_dir():
        raise InputError(f"--plot: {plot} is a folder; name a file in it, such as {plot / 'comparison'}")
    try:
        plot.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--plot: cannot create {plot.parent}: {error.strerror}") from None
    return [plot] if plot.suffix else [plot.with_suffix(".svg"), plot.with_suffix(".png")]


def _zoo_row(row: PublishedModel) -> dict[str, Any]:
    return {
        "name": row.name,
        "family": row.family,
        "parameters": row.parameters,
        "macs": round(row.macs * 1e9),
        "top1": row.top1,
        "img_size": list(row.spec.img_size),
        "weights": bool(row.weights),
        "paper": row.paper,
    }
