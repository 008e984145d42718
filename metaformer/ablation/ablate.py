"""``ablate``: a plan's name in, a trained table and its report out. Where the lab's parts meet."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ..data.dataset import Splits
from ..data.sources import open_labeled
from ..errors import InputError, RunError, SpecError
from ..model.device import resolve_device
from ..run.recipes import run_file
from ..spec.mixer import MixerSpec
from ..spec.model import AnySpec
from ..zoo.catalogue import find
from .executors import Crew, Processes
from .folder import SweepFolder
from .plan import SMALL_SIDE, DataFacts, Plan, Variant, variants
from .plan_files import plan_file, read_plan
from .progress import SweepProgress
from .schedule import Sweep, UnfinishedError, carry_out, named

REFUSED = {
    "model.pretrained": "rows that differ in their parts cannot start from the same weights",
    "model.weights": "rows that differ in their parts cannot start from the same weights",
    "model.mixers": "the plan says which mixers are compared",
    "seed": "every row is trained with the seeds 0, 1, ...; --seeds says how many",
}
"""Fields of a recipe that a sweep decides itself, and why."""


def ablate(
    plan: str,
    out: Path,
    *,
    changed: Mapping[str, Any] | None = None,
    seeds: int = 3,
    only: Sequence[str] | None = None,
    workers: int | None = None,
    ray: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    console: Console | None = None,
    since: float | None = None,
) -> Path:
    """Train every row of a plan with every seed, and report what made the difference.

    Args:
        plan: a shipped plan's name, or a Python or YAML file.
        out: the sweep's folder.
        changed: fields of the plan's recipe that are different here, such as ``{"data": {"source": "digits"}}``;
            ``model.name``, ``model.stem_stride`` and ``model.img_size`` go to the base's frame.
        seeds: how many; 0, 1, ...
        only: names of the changes to train beside the base; all where left out.
        workers: runs at a time; left out, as many as there are GPUs, or cores where runs take one each.
        ray: address of a Ray cluster, or ``local``, to carry the runs out there.
        resume: go on with the sweep in the folder, which may have fewer seeds.
        overwrite: remove the sweep in the folder first.
        command: the command line, kept in the folder.
        console: where to print; standard output when left out.
        since: when the command began, by ``time.monotonic``; the sweep's time is counted from there.

    Returns:
        The report's page.

    Raises:
        InputError: anything a person can mend; finished runs are kept.
        SweepInterrupted: after Ctrl-C or SIGTERM, with the states of the runs saved.
    """
    console = console or Console()
    changed = dict(changed or {})
    _expect_possible(changed, seeds, workers)
    path = plan_file(plan)
    SweepFolder(out).check(resume=resume, overwrite=overwrite)  # before images are looked at for minutes
    plan_read, facts = _for_images(path, changed, console)
    if only is not None:
        plan_read = plan_read.only(only)
    rows, notes = variants(plan_read, facts)
    notes += _built_alike(rows, _built(rows, path))
    rows = [_ready(row, facts) for row in rows]
    for note in notes:
        console.print(f"warning: {note}", style="yellow", markup=False, soft_wrap=True)
    sweep = Sweep(
        name=plan_read.name,
        title=plan_read.title or plan_read.name,
        question=plan_read.question,
        source=plan_read.source,
        variants=tuple(rows),
        seeds=tuple(range(seeds)),
        facts=facts,
        plan_file=path.resolve(),
        notes=tuple(notes),
        command=command,
    )
    crew = _crew(ray, workers, rows)
    try:
        with SweepProgress(console) as progress:
            carry_out(sweep, out, crew, resume=resume, overwrite=overwrite, progress=progress, since=since)
    except UnfinishedError:
        _reported(out, console)
        raise
    return _reported(out, console)


def _expect_possible(changed: Mapping[str, Any], seeds: int, workers: int | None) -> None:
    if seeds < 1:
        raise RunError(f"--seeds: expected at least 1, got {seeds}")
    if workers is not None and workers < 1:
        raise RunError(f"--workers: expected at least 1, got {workers}")
    for dotted, why in REFUSED.items():
        room, _, name = dotted.rpartition(".")
        if name in (changed.get(room, {}) if room else changed):
            raise RunError(f"--{dotted}: {why}")


def _for_images(path: Path, changed: dict[str, Any], console: Console) -> tuple[Plan, DataFacts]:
    """The plan as this data and these flags want it."""
    guess = read_plan(path, SMALL_SIDE)  # a plan may name its own images
    data = guess.recipe.data.updated(changed.get("data", {}))
    with console.status("opening the images"):
        sets = open_labeled(data)
    model = changed.get("model", {})
    frame = find(model["name"]).spec if "name" in model else guess.base.frame
    side = model.get("img_size") or guess.recipe.model.img_size or _side(sets, frame)
    plan = read_plan(path, side)
    base: dict[str, Any] = {key: model[key] for key in ("stem_stride",) if key in model}
    if "name" in model:
        base |= {"model": model["name"], "spec": None, "name": model["name"], "published": None}
        plan = plan.with_changes(changes=tuple(change.with_changes(published=None) for change in plan.changes))
    recipe = plan.recipe.updated(changed)
    plan = plan.with_changes(base=plan.base.with_changes(**base), recipe=recipe)
    facts = DataFacts(
        classes=sets.classes, channels=recipe.model.in_chans or sets.channels, side=side,
        train=len(sets.train), val=len(sets.val),
    )  # fmt: skip
    return plan, facts


def _side(sets: Splits[int], frame: AnySpec) -> int:
    """The images' own size where they share a small one, the base's else."""
    native = sets.native_size
    if native is not None and max(native) <= SMALL_SIDE:
        return max(native)
    return max(frame.img_size)


def _ready(row: Variant, facts: DataFacts) -> Variant:
    """A row whose recipe says what the run has to know and leaves nothing to the machine."""
    recipe = row.recipe
    threads = recipe.machine.threads or (1 if facts.side <= SMALL_SIDE else None)
    model = recipe.model.with_changes(name=row.slug, img_size=None, stem_stride=None, in_chans=None)
    verify = "none" if recipe.data.on_bad_image == "refuse" else recipe.data.verify  # looked at here already
    return row.with_changes(
        recipe=recipe.with_changes(
            model=model,
            data=recipe.data.with_changes(verify=verify),
            machine=recipe.machine.with_changes(threads=threads),
            seed=0,
        )
    )


def _built(rows: Sequence[Variant], path: Path) -> list[str]:
    """What every row is built of, in PyTorch's words; built without memory, before the first run begins.

    Raises:
        SpecError: a row that cannot be built, by its name.
    """
    import torch

    from ..model.build import build

    found = []
    for row in rows:
        try:
            _expect_named_mixers(row, path)
            with torch.device("meta"):
                found.append(repr(build(row.spec)))
        except InputError as error:
            raise type(error)(f"{row.name}: {error}") from None
    return found


def _built_alike(rows: Sequence[Variant], built: Sequence[str]) -> list[str]:
    """Rows written otherwise than the base and built as it is, such as ``pooling(kernel=3)`` for ``pooling``."""
    base = rows[0]
    told = []
    for row, parts in zip(rows[1:], built[1:], strict=True):
        named_only = all(isinstance(mixer, MixerSpec) for mixer in (*row.spec.mixers, *base.spec.mixers))
        if row.spec == base.spec or not named_only or parts != built[0] or row.recipe != base.recipe:
            continue
        if row.spec.mixers and row.spec.with_mixers(base.spec.mixers) == base.spec:
            told.append(f"{row.name!r} writes out what the base has anyway: it is the same run again")
    return told


def _expect_named_mixers(row: Variant, path: Path) -> None:
    """A worker finds a mixer that is a Python object by its name in the plan's file."""
    for mixer, written in zip(row.spec.mixers, named(row.spec).mixers, strict=True):
        if isinstance(mixer, MixerSpec):
            if mixer != written:
                raise SpecError(
                    f"mixers: {mixer.name} holds a Python object, which other processes cannot find; wrap all of it "
                    f"in a function at the top of {path.name} and give that"
                )
            continue
        name = getattr(mixer, "__qualname__", "")
        if getattr(run_file(path), name, None) is None:
            raise SpecError(
                f"mixers: expected a class or a function at the top of {path.name}, where other processes find it by "
                f"its name, got {name or mixer!r}"
            )


def _crew(ray: str | None, workers: int | None, rows: Sequence[Variant]) -> Callable[[], Crew]:
    """Who works: Ray where it is asked for, else processes of this machine."""
    machine = rows[0].recipe.machine
    if ray is not None:
        from .ray_executor import RayCrew

        gpu = None if machine.device == "auto" else machine.device == "cuda"
        return lambda: RayCrew(ray, workers, threads=machine.threads or 1, gpu=gpu)
    resolve_device(machine)  # a device that is not there is told here and not by every worker
    gpus = 0 if machine.device == "cpu" else _gpus()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or gpus or max(1, cores // (machine.threads or cores))
    return lambda: Processes(count, devices=range(gpus))


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _reported(out: Path, console: Console) -> Path:
    from .report.page import findings, sweep_table, write_sweep_page

    page = write_sweep_page(out)
    console.print(sweep_table(out))
    for sentence in findings(out):
        console.print(f"• {sentence}", highlight=False, markup=False)
    console.print(f"\nreport  {page}", highlight=False, markup=False, soft_wrap=True)
    return page
