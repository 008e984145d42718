"""``ablate``: a plan's name in, a table and a report of its trained variants out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..data.dataset import Splits
from ..errors import InputError, RunError, SpecError
from ..metrics import MetricDef
from ..model.device import resolve_device
from ..recipe import Recipe
from ..run.data import open_data
from ..run.recipes import run_file
from ..spec.mixer import MixerSpec
from ..spec.model import AnySpec
from ..tasks.task import Task, task_named
from ..weights.description import named_mixers
from ..zoo.catalogue import find
from .executors import Executor, ProcessExecutor
from .folder import SweepFolder, SweepPlan
from .plan import REFUSED_MODEL_FIELDS, SHARED_FIELDS, SMALL_SIDE, DataFacts, Plan, Variant, variants
from .plan_files import plan_file, read_plan
from .progress import SweepProgress
from .schedule import UnfinishedError, run_sweep


def ablate(
    plan: str | Path,
    out: str | Path,
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
    """Train every variant of a plan with every seed, and report what made the difference.

    Args:
        plan: a shipped plan's name, or a Python or YAML file.
        out: the sweep's folder.
        changed: fields of the plan's recipe that are different here, such as ``{"data": {"source": "digits"}}``;
            ``model.name``, ``model.stem_stride`` and ``model.img_size`` change the base.
        seeds: how many; 0, 1, ...
        only: names of the changes to train beside the base; all if left out.
        workers: runs at a time; if left out, as many as there are GPUs, or cores where runs take one each.
        ray: address of a Ray cluster, or ``local``, to train there.
        resume: continue the sweep in the folder, which may have fewer seeds.
        overwrite: remove the sweep in the folder first.
        command: the command line, kept in the folder.
        console: where to print; standard output if left out.
        since: when the command began, by ``time.monotonic``; the sweep's time is counted from there.

    Returns:
        The report's page.

    Raises:
        InputError: an input that cannot be used; finished runs are kept.
        SweepInterrupted: after Ctrl-C or SIGTERM, with the states of the runs saved.
    """
    console = console or Console()
    changed = dict(changed or {})
    _expect_possible(changed, seeds, workers)
    path, out = plan_file(str(plan)), Path(out)
    SweepFolder(out).check(resume=resume, overwrite=overwrite)  # before opening the images, which can take minutes
    read, splits, facts = _adapt_plan(path, changed, console)
    if only is not None:
        read = read.only(only)
    found, notes = variants(read, facts)
    found = [_complete(variant, facts) for variant in found]
    task = task_named(read.recipe.task)
    models = _build_all(found, task, splits, path)
    notes += _warn_of_defaults(found, models)
    metric = _primary(found, models, task, splits)
    for note in notes:
        console.print(f"warning: {note}", style="yellow", markup=False, soft_wrap=True)
    sweep = SweepPlan(
        name=read.name,
        title=read.title or read.name,
        question=read.question,
        source=read.source,
        base=found[0].name,
        variants=tuple(variant.with_changes(spec=named_mixers(variant.spec)) for variant in found),
        seeds=tuple(range(seeds)),
        data=facts,
        metric=metric,
        chance=task.chance(facts.classes),
        command=command,
        notes=tuple(notes),
    )
    start = _executor_starter(ray, workers, found[0])
    try:
        with SweepProgress(console, metric) as progress:
            run_sweep(sweep, path, out, start, resume=resume, overwrite=overwrite, progress=progress, since=since)
    except UnfinishedError:
        _report(out, console)
        raise
    return _report(out, console)


def _expect_possible(changed: Mapping[str, Any], seeds: int, workers: int | None) -> None:
    if seeds < 1:
        raise RunError(f"--seeds: expected at least 1, got {seeds}")
    if workers is not None and workers < 1:
        raise RunError(f"--workers: expected at least 1, got {workers}")
    if "seed" in changed:
        raise RunError(f"--seed: {SHARED_FIELDS['seed']}")
    for name, reason in REFUSED_MODEL_FIELDS.items():
        if name in changed.get("model", {}):
            raise RunError(f"--model.{name}: {reason}")


def _adapt_plan(path: Path, changed: dict[str, Any], console: Console) -> tuple[Plan, Splits[Any], DataFacts]:
    """The plan with the changed fields in its recipe and its base, the opened data, and what a plan needs of it.

    Raises:
        InputError: the data cannot be opened, or is laid out for another task; the base cannot be built for the task.
    """
    # A plan is written for a size of images, which is not known before they are opened; and a plan may name its images.
    draft = read_plan(path, SMALL_SIDE)
    recipe = draft.recipe.updated(changed)
    task = task_named(recipe.task)
    splits = open_data(task, recipe.data, console)
    model = changed.get("model", {})
    original = find(model["name"]).spec if "name" in model else draft.base.original
    side = recipe.model.img_size or _side(task, recipe, splits, original)
    plan = read_plan(path, side)
    base: dict[str, Any] = {"stem_stride": model["stem_stride"]} if "stem_stride" in model else {}
    if "name" in model:
        base |= {"model": model["name"], "spec": None, "name": model["name"]}
    if "name" in model or recipe.task != plan.recipe.task:
        base |= {"published": None}  # the published numbers are of the plan's own base and task
        plan = plan.with_changes(changes=tuple(change.with_changes(published=None) for change in plan.changes))
    plan = plan.with_changes(base=plan.base.with_changes(**base), recipe=plan.recipe.updated(changed))
    facts = DataFacts(
        classes=splits.classes,
        channels=recipe.model.in_chans or splits.channels,
        side=side,
        train=len(splits.train),
        val=len(splits.val),
        source=recipe.data.source,
    )
    return plan, splits, facts


def _side(task: Task, recipe: Recipe, splits: Splits[Any], original: AnySpec) -> int:
    """The images' own size if they share a small one, else that of the base as the task builds it.

    A detector or a segmenter is built for the short side that the recipe gives its images.
    """
    if splits.native_size is not None and max(splits.native_size) <= SMALL_SIDE:
        return max(splits.native_size)
    with torch.device("meta"):
        model, _ = task.build(recipe, splits, original)
    return int(max(model.spec.img_size))


def _complete(variant: Variant, facts: DataFacts) -> Variant:
    """A variant whose recipe holds everything a run needs, so that it is the same on every machine."""
    recipe = variant.recipe
    threads = recipe.machine.threads or (1 if facts.side <= SMALL_SIDE else None)
    # These are in the spec already. The channels stay in the recipe, because the task would take those of the images.
    model = recipe.model.with_changes(name=variant.slug, img_size=None, stem_stride=None)
    verify = "none" if recipe.data.on_bad_image == "refuse" else recipe.data.verify  # the files were checked here
    return variant.with_changes(
        recipe=recipe.with_changes(
            model=model,
            data=recipe.data.with_changes(verify=verify),
            machine=recipe.machine.with_changes(threads=threads),
            seed=0,
        )
    )


def _build_all(found: Sequence[Variant], task: Task, splits: Splits[Any], path: Path) -> list[Any]:
    """Every variant's model, built without memory before the first run starts.

    Raises:
        InputError: a variant that cannot be built for the task, with its name.
    """
    models = []
    for variant in found:
        try:
            _expect_importable_mixers(variant, path)
            with torch.device("meta"):
                models.append(task.build(variant.recipe, splits, variant.spec)[0])
        except InputError as error:
            raise type(error)(f"{variant.name}: {error}") from None
    return models


def _primary(found: Sequence[Variant], models: Sequence[Any], task: Task, splits: Splits[Any]) -> MetricDef:
    """The metric by which all variants are compared.

    Raises:
        RunError: a variant's recipe leads to another metric than the base's.
    """
    metric = task.objective(found[0].recipe, splits, models[0]).primary
    for variant, model in zip(found[1:], models[1:], strict=True):
        if variant.recipe.with_changes(model=found[0].recipe.model) == found[0].recipe:
            continue  # an objective of COCO reads all of its annotations
        own = task.objective(variant.recipe, splits, model).primary
        if own != metric:
            raise RunError(
                f"{variant.name}: its primary metric is {own.label}, that of the base is {metric.label}; variants of a "
                "plan are compared by one metric"
            )
    return metric


def _warn_of_defaults(found: Sequence[Variant], models: Sequence[Any]) -> list[str]:
    """Variants that only write out what the base has by default, such as ``pooling(kernel=3)`` for ``pooling``."""
    base, parts = found[0], repr(models[0])
    warnings = []
    for variant, model in zip(found[1:], models[1:], strict=True):
        named_only = all(isinstance(mixer, MixerSpec) for mixer in (*variant.spec.mixers, *base.spec.mixers))
        if variant.spec == base.spec or not named_only or repr(model) != parts:
            continue
        if variant.recipe.with_changes(model=base.recipe.model) != base.recipe or not variant.spec.mixers:
            continue
        if variant.spec.with_mixers(base.spec.mixers) == base.spec:
            warnings.append(f"{variant.name!r} writes out defaults of the base: it repeats the base's run")
    return warnings


def _expect_importable_mixers(variant: Variant, path: Path) -> None:
    """Refuse mixers that a worker process cannot find by name in the plan's file."""
    for mixer, written in zip(variant.spec.mixers, named_mixers(variant.spec).mixers, strict=True):
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


def _executor_starter(ray: str | None, workers: int | None, base: Variant) -> Callable[[], Executor]:
    """What starts the executor: Ray if asked for, else processes of this machine."""
    machine = base.recipe.machine
    if ray is not None:
        from .ray_executor import RayExecutor

        gpu = None if machine.device == "auto" else machine.device == "cuda"
        return lambda: RayExecutor(ray, workers, threads=machine.threads or 1, gpu=gpu)
    resolve_device(machine)  # refuses a device that this machine lacks here and not in every worker
    gpus = 0 if machine.device == "cpu" else torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or gpus or max(1, cores // (machine.threads or cores))
    return lambda: ProcessExecutor(count, devices=range(gpus), task=base.recipe.task)


def _report(out: Path, console: Console) -> Path:
    from .report.findings import findings
    from .report.page import write_sweep_page
    from .report.results import read_results
    from .report.table import terminal_table

    page, results = write_sweep_page(out), read_results(out)
    console.print(terminal_table(results))
    for sentence in findings(results):
        console.print(f"• {sentence}", highlight=False, markup=False)
    console.print(f"\nreport  {page}", highlight=False, markup=False, soft_wrap=True)
    return page
