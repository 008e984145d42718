"""``metaformer models``: list the models of the zoo. torch is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from ..errors import InputError, did_you_mean
from .flags import option, switch


def models(
    pattern: Annotated[str, Parameter(help="Part of a name, or a pattern such as 'poolformer_*'.")] = "*",
    *,
    family: Annotated[str | None, option("Only this family, such as CAFormer.")] = None,
    pretrained: Annotated[bool, switch("Only models with published weights.")] = False,
    compare: Annotated[
        bool,
        switch("The paper's ImageNet table: counted here beside printed."),
    ] = False,
    plot: Annotated[
        Path | None, option("With --compare: accuracy over cost as .svg or .png; both without a suffix.")
    ] = None,
    format: Annotated[Literal["table", "csv", "json", "markdown"], option("How to print it.")] = "table",
) -> None:
    """List the published models: exact parameters, multiply-adds, published ImageNet-1K top-1."""
    from ..zoo.catalogue import CATALOGUE, list_models
    from ..zoo.tables import model_table as zoo_table

    names = list_models(pattern, family=family, pretrained=pretrained)
    if not names:
        raise InputError(f"no model matches {pattern!r}. {did_you_mean(pattern, CATALOGUE)}".rstrip())
    if compare:
        _compare([CATALOGUE[name] for name in names], plot, format)
        return
    if plot is not None:
        raise InputError("--plot draws the paper's comparison: give --compare with it")
    rows = [_zoo_row(CATALOGUE[name]) for name in names]
    if format == "table":
        Console().print(zoo_table.zoo_table(rows))
        return
    write = {"csv": zoo_table.zoo_csv, "json": zoo_table.zoo_json, "markdown": zoo_table.zoo_markdown}[format]
    print(write(rows).rstrip("\n"))


def _compare(rows: list[Any], plot: Path | None, format: str) -> None:
    """The first paper's ImageNet table of these rows, and its figure where asked for."""
    from ..zoo.tables import imagenet_table as table

    rows = table.in_paper_order(rows)
    if not rows:
        raise InputError(
            "none of these models stands in the paper's ImageNet table; `metaformer models --compare` "
            "shows those that do"
        )
    files = _plot_files(plot) if plot is not None else []
    lines = _counted_with_a_bar(rows)
    if format == "table":
        Console(highlight=False).print(table.comparison_table(lines))
    else:
        ways = {"csv": table.comparison_csv, "json": table.comparison_json, "markdown": table.comparison_markdown}
        print(ways[format](lines).rstrip("\n"))
    if files:
        _draw(lines, files)


def _draw(lines: list[Any], files: list[Path]) -> None:
    from ..zoo.tables.imagenet_plot import write_plot

    for file in files:
        try:
            write_plot(lines, file)
        except OSError as error:
            raise InputError(f"--plot: {file} cannot be written: {error.strerror}") from None
        Console(stderr=True, highlight=False).print(f"plot  {file}", markup=False, soft_wrap=True)


def _plot_files(plot: Path) -> list[Path]:
    """Which images to write; a folder that is not there is made before anything is counted."""
    if plot.suffix not in ("", ".svg", ".png"):
        raise InputError(f"--plot: expected a file that ends in .svg or .png, or neither for both, got {plot}")
    if plot.is_dir():
        raise InputError(f"--plot: {plot} is a folder; name a file in it, such as {plot / 'comparison'}")
    files = [plot] if plot.suffix else [plot.with_suffix(".svg"), plot.with_suffix(".png")]
    try:
        plot.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--plot: {plot.parent} cannot be made: {error.strerror}") from None
    return files


def _counted_with_a_bar(rows: list[Any]) -> list[Any]:
    """Every row's model is built without storage and counted, which takes seconds; a terminal sees how far it is."""
    from rich.progress import track

    from ..zoo.tables.imagenet_table import counted

    told = Console(stderr=True)
    lines = counted(rows)
    return list(track(lines, "counting", total=len(rows), console=told, transient=True, disable=not told.is_terminal))


def _zoo_row(row: Any) -> dict[str, Any]:
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
