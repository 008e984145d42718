"""``metaformer train``: read the flags, train, print the result. torch is imported inside the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from rich.console import Console

from ..recipe import Recipe
from ..run.recipes import assemble_recipe
from .flags import command_line, nested, option, switch, with_flags


@with_flags(Recipe)
def train(
    *,
    out: Annotated[Path | None, option("Folder of the run [default: runs/MODEL-DATA].")] = None,
    recipe: Annotated[str | None, option("A shipped recipe, such as imagenet/poolformer, or a file.")] = None,
    config: Annotated[Path | None, option("A YAML file with any of the fields below.")] = None,
    resume: Annotated[bool, switch("Go on with the run in the folder, exactly.")] = False,
    overwrite: Annotated[bool, switch("Remove the run in the folder first.")] = False,
    **flags: Any,
) -> None:
    """Train a classifier on a folder of images; with --task, a detector or a segmenter.

    A recipe file sets the start, a YAML file goes over it, flags go over both. Every field has a dotted flag; the
    everyday ones have a short one too.
    """
    from ..run.config import RunConfig, is_run

    said = nested(flags)
    if resume and out is not None and is_run(out):
        chosen = assemble_recipe(RunConfig.read(out).recipe, recipe=recipe, config=config, overrides=said)
    else:
        chosen = assemble_recipe(None, recipe=recipe, config=config, overrides=said)
    folder = out or _usual_folder(chosen)
    if resume and out is None and is_run(folder):
        chosen = assemble_recipe(RunConfig.read(folder).recipe, recipe=recipe, config=config, overrides=said)
    _expect_model(chosen.model.name)

    from ..run import train as run

    result = run.train(chosen, folder, resume=resume, overwrite=overwrite, command=command_line.get())
    if result is not None:
        _print_result(result)


def _usual_folder(recipe: Recipe) -> Path:
    source = recipe.data.source.rstrip("/")
    data = Path(source).expanduser().resolve().name if "/" in source or source.startswith(".") else source
    return Path("runs") / f"{recipe.model.name}-{data.replace(':', '-')}"


def _expect_model(name: str) -> None:
    """Refuse an unknown model before anything slow happens."""
    from ..zoo.catalogue import find

    find(name)


def _print_result(result: Any) -> None:
    from ..render.numbers import duration, metric_text

    console = Console(highlight=False)
    if result.was_finished:
        console.print("this run was finished already; there is nothing left to train")
    time = f", {duration(result.seconds)}" if result.seconds else ""
    console.print(
        f"[bold]best {result.primary.label} {metric_text(result.primary, result.best)}[/] (epoch {result.best_epoch}), "
        f"last {metric_text(result.primary, result.last.get(result.primary.name))}{time}"
    )
    console.print(f"report   {result.report}", markup=False, soft_wrap=True)
    console.print(f"predict  metaformer predict --weights {result.folder} IMAGES", markup=False, soft_wrap=True)
