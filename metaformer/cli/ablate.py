"""``metaformer ablate``: reads the command line and calls ``ablate``; torch is imported inside."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..recipe import Recipe
from ..run.recipes import shipped_plans
from .flags import command_line, nested, option, switch, with_flags


@with_flags(
    Recipe, defaults=False, without=("seed", "model.pretrained", "model.weights", "model.mixers"), taken=("--workers",)
)
def ablate(
    plan: Annotated[str, Parameter(help=f"A shipped plan ({', '.join(shipped_plans())}), or a Python or YAML file.")],
    *,
    out: Annotated[Path | None, option("Folder of the sweep [default: sweeps/PLAN-DATA].")] = None,
    seeds: Annotated[int, option("Runs of every variant, with the seeds 0, 1, ...")] = 3,
    only: Annotated[
        tuple[str, ...] | None, option("Only these changes beside the base.", consume_multiple=True, negative=())
    ] = None,
    workers: Annotated[int | None, option("Runs at a time [default: one per GPU, or one per core].")] = None,
    ray: Annotated[str | None, option("Address of a Ray cluster to train on, or 'local'.")] = None,
    resume: Annotated[bool, switch("Continue the sweep in the folder.")] = False,
    overwrite: Annotated[bool, switch("Remove the sweep in the folder first.")] = False,
    **flags: Any,
) -> None:
    """Train the variants of a plan under one recipe and report, with error bars, what made the difference.

    --model replaces the plan's base by another model; the plan's published numbers are then left out, since they are
    not that model's. Every field of the plan's recipe has a dotted flag, which holds for all variants but those that
    change it.
    """
    since = time.monotonic()  # before torch is imported
    changed = nested(flags)
    from ..ablation import fork_server

    if ray is None:
        fork_server.start(changed.get("task"))
    from ..ablation.ablate import ablate as run_ablation

    run_ablation(
        plan,
        out or Path("sweeps") / _default_name(plan, changed),
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


def _default_name(plan: str, changed: dict[str, Any]) -> str:
    """``PLAN-DATA``."""
    source = str(changed.get("data", {}).get("source", "")).rstrip("/")
    data = Path(source).expanduser().resolve().name if "/" in source or source.startswith(".") else source
    return "-".join(part for part in (Path(plan).stem, data.replace(":", "-")) if part)
