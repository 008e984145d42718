"""``metaformer ablate``: train the variants of a plan and compare them. torch is imported inside the command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..recipe import Recipe
from ..run.recipes import shipped_plans
from ..tasks.task import TASKS
from .flags import command_line, dataset_name, nested, option, switch, with_flags


@with_flags(
    Recipe,
    defaults=False,
    without=("seed", "model.pretrained", "model.weights", "model.mixers"),
    taken=("--workers",),
    choices={"task": tuple(TASKS)},
)
def ablate(
    plan: Annotated[str, Parameter(help=f"Python or YAML file, or a shipped plan: {', '.join(shipped_plans())}.")],
    *,
    out: Annotated[Path | None, option("Sweep folder. [default: sweeps/PLAN-DATA]")] = None,
    seeds: Annotated[int, option("Runs per variant, with the seeds 0, 1, ...")] = 3,
    only: Annotated[
        tuple[str, ...] | None,
        option("Train only these variants and the baseline.", consume_multiple=True, negative=()),
    ] = None,
    workers: Annotated[int | None, option("Runs at the same time. [default: one per GPU, or one per core]")] = None,
    ray: Annotated[str | None, option("Address of a Ray cluster to train on, or 'local'.")] = None,
    resume: Annotated[bool, switch("Continue the sweep in the folder.")] = False,
    overwrite: Annotated[bool, switch("Remove the sweep in the folder and start over.")] = False,
    **flags: Any,
) -> None:
    """Train the variants of a plan with one recipe and compare them to the baseline, with error bars.

    --model replaces the baseline's model; the plan's published numbers are then left out. The flags of the recipe apply
    to all variants but those that change the same field.
    """
    since = time.monotonic()  # before torch is imported
    changed = nested(flags)
    from ..ablation import fork_server

    if ray is None:
        fork_server.start(changed.get("task"))
    from ..ablation.ablate import ablate as run_ablation

    source = dataset_name(str(changed.get("data", {}).get("source", "")))
    run_ablation(
        plan,
        out or Path("sweeps") / "-".join(part for part in (Path(plan).stem, source) if part),
        changed=changed,
        seeds=seeds,
        only=only,
        workers=workers,
        ray=ray,
        resume=resume,
        overwrite=overwrite,
        command=command_line.get(),
        since=since,
    )
