"""``metaformer ablate``: reads its words and calls the ablation lab; torch is imported inside."""

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
    seeds: Annotated[int, option("Runs of every row, with the seeds 0, 1, ...")] = 3,
    only: Annotated[
        tuple[str, ...] | None, option("Only these rows beside the base.", consume_multiple=True, negative=())
    ] = None,
    workers: Annotated[int | None, option("Runs at a time [default: one a GPU, or one a core].")] = None,
    ray: Annotated[str | None, option("Address of a Ray cluster to train on, or 'local'.")] = None,
    resume: Annotated[bool, switch("Go on with the sweep in the folder.")] = False,
    overwrite: Annotated[bool, switch("Remove the sweep in the folder first.")] = False,
    **flags: Any,
) -> None:
    """Train a plan of variants under one recipe and say, with error bars, what made the difference.

    --model puts another row of the zoo into the base's place; the plan's printed figures, which are not its own, are
    left out. Every field of the plan's recipe has a dotted flag, which holds for all rows but those that change it.
    """
    since = time.monotonic()  # before torch is imported
    from ..ablation import fork_server

    if ray is None:
        fork_server.begin()
    from ..ablation.ablate import ablate as carry_out

    said = nested(flags)
    carry_out(
        plan,
        out or Path("sweeps") / _usual_name(plan, said),
        changed=said,
        seeds=seeds,
        only=only,
        workers=workers,
        ray=ray,
        resume=resume,
        overwrite=overwrite,
        command=command_line.get(),
        since=since,
    )


def _usual_name(plan: str, said: dict[str, Any]) -> str:
    source = str(said.get("data", {}).get("source", "")).rstrip("/")
    data = Path(source).expanduser().resolve().name if "/" in source or source.startswith(".") else source
    return "-".join(part for part in (Path(plan).stem, data.replace(":", "-")) if part)
