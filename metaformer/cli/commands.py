"""The five commands. Each reads its words, calls the library, and prints what came out; torch is imported inside."""

from __future__ import annotations

import json
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from ..errors import DataError, InputError, did_you_mean
from ..metrics import figure_name
from ..recipe import DataConfig, Recipe
from ..run.recipes import assembled
from .flags import COMMON, RUN, nested, with_flags

command_line: ContextVar[str] = ContextVar("command_line", default="")
"""What was typed, kept in a run's config.json."""

Device = Literal["auto", "cpu", "cuda", "mps"]


def _option(help: str, *names: str, group: Any = COMMON, **more: Any) -> Parameter:
    return Parameter(name=names or None, help=help, group=group, **more)


@with_flags(Recipe)
def train(
    *,
    out: Annotated[Path | None, _option("Folder of the run [default: runs/MODEL-DATA].", group=RUN)] = None,
    recipe: Annotated[
        str | None, _option("A shipped recipe, such as imagenet/poolformer, or a file.", group=RUN)
    ] = None,
    config: Annotated[Path | None, _option("A YAML file with any of the fields below.", group=RUN)] = None,
    resume: Annotated[
        bool, _option("Go on with the run in the folder, exactly.", group=RUN, negative=(), show_default=False)
    ] = False,
    overwrite: Annotated[
        bool, _option("Remove the run in the folder first.", group=RUN, negative=(), show_default=False)
    ] = False,
    **flags: Any,
) -> None:
    """Train a classifier on a folder of images; with --task, a detector or a segmenter.

    A recipe file sets the start, a YAML file goes over it, flags go over both. Every field has a dotted flag; the
    everyday ones have a short one too.
    """
    from ..run.folder import CONFIG, stored_recipe

    said = nested(flags)
    if resume and out is not None and (out / CONFIG).is_file():
        chosen = assembled(stored_recipe(out), recipe=recipe, config=config, overrides=said)
    else:
        chosen = assembled(None, recipe=recipe, config=config, overrides=said)
    folder = out or _usual_folder(chosen)
    if resume and out is None and (folder / CONFIG).is_file():
        chosen = assembled(stored_recipe(folder), recipe=recipe, config=config, overrides=said)
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
    from ..render.numbers import duration, percent

    console = Console(highlight=False)
    if result.was_finished:
        console.print("this run was finished already; there is nothing left to train")
    time = f", {duration(result.seconds)}" if result.seconds else ""
    console.print(
        f"[bold]best {figure_name(result.figure)} {percent(result.best)}[/] (epoch {result.best_epoch}), "
        f"last {percent(result.last.get(result.figure))}{time}"
    )
    console.print(f"report   {result.report}", markup=False, soft_wrap=True)
    console.print(f"predict  metaformer predict --weights {result.folder} IMAGES", markup=False, soft_wrap=True)


@with_flags(DataConfig, "data.", "Data", defaults=False)
def evaluate(
    weights: Annotated[str | None, _option("A run's folder, a weights file or a hub id.")] = None,
    *,
    model: Annotated[str | None, _option("A row of the zoo: for published weights and files of others.")] = None,
    part: Annotated[
        Literal["val", "train", "all"] | None,
        _option(
            "Which images: the held-out ones, the others, all [default: val; all of a folder without a val/ that is "
            "not the run's own].",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, _option("Images at a time.")] = 64,
    device: Annotated[Device, _option("Where to compute.")] = "auto",
    out: Annotated[Path | None, _option("Folder for evaluation.json and images; nothing is written else.")] = None,
    as_json: Annotated[bool, _option("Print one JSON document.", "--json", negative=(), show_default=False)] = False,
    **flags: Any,
) -> None:
    """Measure a trained model on images; on those of its run where none are named."""
    from ..run import evaluate as evaluation

    choice = data_of(weights, nested(flags).get("data", {}))
    result = evaluation.evaluate(
        weights, choice, name=model, part=part, batch_size=_at_least_one(batch_size), device=device, out=out
    )
    if as_json:
        print(json.dumps({"figures": dict(result.figures), "images": result.images}))
        return
    from ..render.numbers import count, figure, percent

    table = Table(show_header=False, box=None)
    for name, value in result.figures.items():
        table.add_row(figure_name(name), figure(value) if name == "loss" else percent(value))
    table.add_row("images", count(result.images))
    Console().print(table)


def _at_least_one(batch_size: int) -> int:
    if batch_size < 1:
        raise DataError(f"--batch-size: expected at least 1, got {batch_size}")
    return batch_size


def data_of(weights: str | None, said: dict[str, Any]) -> DataConfig | None:
    """The run's own choice of images with what was said over it; None where nothing was said."""
    if not said:
        return None
    from ..run.folder import CONFIG, stored_recipe

    is_run = weights is not None and (Path(weights) / CONFIG).is_file()
    own = _or_none(lambda: stored_recipe(Path(weights or "")).data) if is_run else None
    if own is None and "source" not in said:
        raise DataError("which images? Give --data a folder or the name of a data set")
    return (own or DataConfig()).updated(said, "data")


def _or_none(read: Any) -> Any:
    try:
        return read()
    except InputError:
        return None


def predict(
    *images: Annotated[str, Parameter(help="Files, folders and patterns such as 'photos/*.jpg'.")],
    weights: Annotated[str | None, _option("A run's folder, a weights file or a hub id.")] = None,
    model: Annotated[str | None, _option("A row of the zoo: for published weights and files of others.")] = None,
    top: Annotated[int, _option("Classes for each image.")] = 5,
    out: Annotated[
        Path, _option("Folder for the drawings and results of a detector or a segmenter; classifiers write none.")
    ] = Path("predictions"),
    score: Annotated[float, _option("Least score of an object that a detector shows.")] = 0.5,
    batch_size: Annotated[int, _option("Images at a time.")] = 32,
    device: Annotated[Device, _option("Where to compute.")] = "auto",
    on_bad_image: Annotated[
        Literal["refuse", "skip"], _option("Stop at a file that is no image, or leave it out.")
    ] = "refuse",
    as_json: Annotated[bool, _option("Print one JSON document.", "--json", negative=(), show_default=False)] = False,
) -> None:
    """Say what is in images.

    A classifier names the likeliest classes of each, with bars. A detector draws its boxes and masks on each and writes
    COCO's results.json, a segmenter its label maps as PNG, both into --out.
    """
    from ..inference import predictor as prediction
    from ..inference.loaded import load_any, task_of
    from ..recipe import Machine
    from ..training.device import chosen_device

    if top < 1:
        raise DataError(f"--top: expected at least 1, got {top}")
    if not 0 <= score <= 1:
        raise DataError(f"--score: expected a number from 0 to 1, got {score}")
    prediction.expanded(images)  # a wrong path is told before weights are read or downloaded
    trained = load_any(weights, model)
    place = chosen_device(Machine(device=device))
    if task_of(weights) == "classification":
        answers: Any = prediction.predict(
            trained, images, top=top, batch_size=_at_least_one(batch_size), device=place, on_bad_image=on_bad_image
        )
        shown = prediction.bars
    else:
        answers, shown = _drawn(trained, images, out, score, place, on_bad_image)
    if as_json:
        print(json.dumps([answer.to_dict() for answer in answers.answers], indent=2, ensure_ascii=False))
    else:
        console = Console(highlight=False)
        for answer in answers.answers:
            console.print(shown(answer))
    if answers.skipped:
        told = Console(stderr=True, highlight=False)
        told.print(f"{len(answers.skipped)} files left out, they are no readable images:", style="yellow")
        for bad in answers.skipped:
            told.print(f"  {bad.path}: {bad.reason}", markup=False, soft_wrap=True)


def _drawn(trained: Any, images: Any, out: Path, score: float, device: str, on_bad_image: Any) -> tuple[Any, Any]:
    """The answers of a detector or a segmenter, with a bar while they are drawn, and how one is shown."""
    from rich.progress import Progress

    from ..inference import draw_folder as dense_prediction

    told = Console(stderr=True)
    with Progress(console=told, transient=True, disable=not told.is_terminal) as progress:
        bar = progress.add_task("drawing", total=None)
        answers = dense_prediction.predict_dense(
            trained,
            images,
            out,
            score=score,
            device=device,
            on_bad_image=on_bad_image,
            each_image=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    return answers, dense_prediction.lines


def models(
    pattern: Annotated[str, Parameter(help="Part of a name, or a pattern such as 'poolformer_*'.")] = "*",
    *,
    family: Annotated[str | None, _option("Only this family, such as CAFormer.")] = None,
    pretrained: Annotated[
        bool, _option("Only models with published weights.", negative=(), show_default=False)
    ] = False,
    compare: Annotated[
        bool,
        _option("The paper's ImageNet table: counted here beside printed.", negative=(), show_default=False),
    ] = False,
    plot: Annotated[
        Path | None, _option("With --compare: accuracy over cost as .svg or .png; both without a suffix.")
    ] = None,
    format: Annotated[Literal["table", "csv", "json", "markdown"], _option("How to print it.")] = "table",
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


def report(
    *folders: Annotated[Path, Parameter(help="Run folders, or folders of sweeps.")],
    out: Annotated[
        Path | None, _option("Where two or more sweeps are compared [default: comparison/ in the first].")
    ] = None,
) -> None:
    """Write the reports of runs or sweeps again, from the files in their folders; compare two or more sweeps."""
    from ..ablation.report.files import is_sweep

    if not folders:
        raise InputError("which runs? Give one or more run folders, such as runs/*, or folders of sweeps")
    sweeps = [folder for folder in folders if is_sweep(folder)]
    if len(sweeps) == len(folders):
        _report_sweeps(sweeps, out)
        return
    if out is not None:
        raise InputError("--out is for the comparison of two or more sweeps; the report of a run stays in its folder")
    _report_runs(folders, sweeps)


def _report_sweeps(folders: list[Path], out: Path | None) -> None:
    from ..ablation.report.comparison import write_sweep_comparison
    from ..ablation.report.page import write_sweep_page

    if out is not None and len(folders) < 2:
        raise InputError("--out is for the comparison of two or more sweeps; the report of one stays in its folder")
    # First, since it says what does not fit together before any page is written.
    compared = [write_sweep_comparison(folders, out)] if len(folders) > 1 else []
    for page in [*map(write_sweep_page, folders), *compared]:
        print(page)


def _report_runs(folders: tuple[Path, ...], sweeps: list[Path]) -> None:
    from ..run.folder import CONFIG
    from ..run.report.page import write_run_page
    from ..training.journal import METRICS

    runs = [folder for folder in folders if any((folder / name).is_file() for name in (CONFIG, METRICS))]
    foreign = next((folder for folder in folders if folder not in runs and folder not in sweeps), None)
    if foreign is not None:
        raise InputError(
            f"{foreign}: expected a run folder, with the {CONFIG} and {METRICS} that a run writes, or a sweep's, with "
            "the plan.json that `metaformer ablate` writes"
        )
    if sweeps:
        raise InputError(
            f"{sweeps[0]} is a sweep and {runs[0]} a run; give either runs or sweeps. A sweep's runs are in its runs/"
        )
    for folder in folders:
        print(write_run_page(folder))
