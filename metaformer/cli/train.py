"""``metaformer train``: read the flags, train, print the result. torch is imported inside the command."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console

from ..recipe import Recipe
from ..run.recipes import assemble_recipe
from ..tasks.task import TASKS
from .flags import command_line, dataset_name, nested, option, switch, with_flags

if TYPE_CHECKING:
    from ..run.train import RunResult


@with_flags(Recipe, choices={"task": tuple(TASKS)})
def train(
    *,
    out: Annotated[Path | None, option("Run folder. [default: runs/MODEL-DATA]")] = None,
    recipe: Annotated[str | None, option("Recipe file or name of a shipped recipe, such as finetune.")] = None,
    config: Annotated[Path | None, option("YAML file with any of the fields below, or a run's config.json.")] = None,
    resume: Annotated[bool, switch("Continue the run in the folder from its newest checkpoint.")] = False,
    overwrite: Annotated[bool, switch("Remove the run in the folder and start over.")] = False,
    **flags: Any,
) -> None:
    """Train a classifier on a folder of images; with --task, a detector or a segmenter.

    The recipe is updated from the YAML file, then from the flags. Every field of a recipe has a dotted flag, the common
    ones a short flag too.
    """
    from ..run.config import RunConfig, is_run

    assemble = partial(assemble_recipe, recipe=recipe, config=config, overrides=nested(flags))
    chosen = assemble(RunConfig.read(out).recipe if resume and out is not None and is_run(out) else None)
    folder = out or default_folder(chosen)
    if resume and out is None and is_run(folder):
        chosen = assemble(RunConfig.read(folder).recipe)

    from ..zoo.catalogue import find

    find(chosen.model.name)  # an unknown model is refused before torch is imported and data is opened

    from ..run import train as run

    result = run.train(chosen, folder, resume=resume, overwrite=overwrite, command=command_line.get())
    if result is not None:
        _print_result(result)


def default_folder(recipe: Recipe) -> Path:
    """``runs/MODEL-DATA``."""
    return Path("runs") / f"{recipe.model.name}-{dataset_name(recipe.data.source)}"


def _print_result(result: RunResult) -> None:
    from ..render.numbers import duration, metric_text

    console = Console(highlight=False)
    if result.was_finished:
        console.print("This run is already finished; there is nothing left to train.")
    time = f", {duration(result.seconds)}" if result.seconds else ""
    best, last = (metric_text(result.primary, value) for value in (result.best, result.last.get(result.primary.name)))
    console.print(f"[bold]best {result.primary.label} {best}[/] (epoch {result.best_epoch}), last {last}{time}")
    console.print(f"report   {result.report}", markup=False, soft_wrap=True)
    console.print(f"predict  metaformer predict --weights {result.folder} IMAGES", markup=False, soft_wrap=True)
