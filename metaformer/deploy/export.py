"""A trained model as files for an engine, and back: written, read again from the disk, compared with the original.

In: a run's folder, a weights file or a published model. Out: a folder with the model and ``export.json``, which
describes it. ``load_exported`` reads such a folder into a model that is called like the original.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from ..data.dataset import Dataset, Splits
from ..data.decode import UnreadableImage
from ..errors import DataError, InputError, RunError, did_you_mean
from ..factory.classifier import create_model
from ..inference.loaded import LoadedModel, load_any
from ..model.dense.build import AnyModel
from ..recipe import DataConfig
from ..run.data import data_of_run, expect_classes, open_data
from ..run.output_folder import OutputFolder
from ..run.provenance import versions
from ..tasks.task import EvaluationOptions, Task, task_named
from ..version import __version__
from ..weights.description import describe
from ..weights.hub import from_pretrained
from ..weights.save import load_model, save_weights
from ..zoo.catalogue import CATALOGUE
from .compile import (
    GRAPHS,
    Backend,
    CompiledModel,
    FellBackWarning,
    Prepared,
    expect_threads,
    form_for,
    graph_of,
    largest_difference,
    prepared,
)
from .engines import onnxruntime, openvino
from .engines import torch as eager
from .engines.core import REGIONS, Run, core_of, expect_model, has_input_size, read_outside, whole, write_outside
from .engines.graph import Sizes, sizes_of, traced
from .export_info import ABOUT, FORMATS, Comparison, ExportInfo, Format
from .precision import BOUNDS, Precision, available, known_precision
from .quantization import IMAGES, inputs_of

ENGINES: Mapping[Format, Backend] = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "torch": "torch",
    "aot": "torch",
    "safetensors": "torch",
}
"""The engine that runs each format."""
WEIGHTS = "model.safetensors"
EXPORT = OutputFolder(
    kind="export",
    mark=ABOUT,
    written=(ABOUT, WEIGHTS, REGIONS, *onnxruntime.FILES, *openvino.FILES, eager.PROGRAM, eager.PACKAGE),
    resumable=False,
)
COMPARED = 32
"""The number of images whose outputs are compared."""
BATCH = 16
"""Batch size where metrics are measured."""
_PACKAGES = ("torch", "openvino", "nncf", "onnx", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Export:
    """The result of ``export``."""

    folder: Path
    info: ExportInfo
    """The content of its export.json."""

    @property
    def comparison(self) -> Comparison:
        """The exported model against the original: difference, and metrics before and after."""
        return self.info.comparison


def export(
    source: str | Path | None,
    out: str | Path,
    *,
    format: Format = "onnx",
    precision: Precision = "fp32",
    name: str | None = None,
    data: DataConfig | None = None,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> Export:
    """Write a trained model for an engine, read it again from the disk and compare it with the original.

    Args:
        source: a run's folder, a weights file, a hub id or a model name.
        out: the folder to write. It appears as a whole, and only after the comparison.
        format: ``onnx``, ``openvino``, ``torch`` (a ``torch.export`` program), ``aot`` (machine code by AOTInductor for
            this kind of machine) or ``safetensors``.
        precision: ``fp32``, ``bf16`` or ``int8``. If the engine or this machine lacks it, fp32 is used with a warning.
        name: a model name, for third-party checkpoints.
        data: images for the comparison, and to calibrate int8; those of the run if None.
        size: height and width of a classifier's images; those of its preprocessing if None.
        overwrite: whether to replace an export in ``out``.
        console: for progress; standard error if None.

    Raises:
        InputError: a model that cannot be exported (the message names the module or the operation), an engine that is
            not installed, an ``out`` that cannot be used. ``RunError`` if the outputs differ by more than the precision
            allows: the files are then kept under a name that ends in ``-differs``.
    """
    console = console or Console(stderr=True)
    place = Path(out).expanduser()
    _expect_choice(format, precision)
    EXPORT.check(place, overwrite=overwrite)
    loaded = _loaded(source, name, size)
    task, model = task_named(loaded.task), loaded.model.cpu().eval()
    splits = _splits(source, loaded, task, data, console)
    used, reason = available(precision, ENGINES[format])
    notes = _warned(reason)
    calibration = _calibration(task, model, splits) if precision == "int8" else []
    compared = _compared(task, model, splits, notes)
    unfinished = place.with_name(f".{place.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        info = _write(loaded, unfinished, format, used, calibration)
        exported = _load(unfinished, info)  # from the disk: errors of writing and reading must show too
        difference = largest_difference(exported.run, core_of(model), compared)
        before, after = _metrics(task, (model, exported), splits, console)
        info = info.with_changes(
            comparison=Comparison(
                difference=difference, bound=BOUNDS[used], images=len(compared), before=before, after=after
            ),
            notes=tuple(dict.fromkeys((*notes, *exported.notes))),
        )
        info.write(unfinished)
        _expect_same(unfinished, place, info)
        _move(unfinished, place)
    except OSError as error:
        raise RunError(f"{place} cannot be written: {error.strerror}. Choose another folder with --out") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Export(folder=place, info=info)


def load_exported(folder: str | Path, *, threads: int | None = None) -> CompiledModel:
    """The model that ``export`` wrote, called like the original.

    Args:
        folder: the ``out`` of ``export``.
        threads: CPU threads; the engine's choice if None.

    Raises:
        InputError: no export, a damaged one, or an engine that is not installed.
    """
    expect_threads(threads)
    place = Path(folder).expanduser()
    return _load(place, ExportInfo.read(place), threads)


def _load(place: Path, info: ExportInfo, threads: int | None = None) -> CompiledModel:
    """The model in a folder."""
    _expect_machine(info)
    engine, used, notes = ENGINES[info.format], info.precision, list[str]()
    model: AnyModel | None
    if engine in GRAPHS:
        # The files of a bf16 export hold float32 weights, so another machine can run them in float32.
        used, reason = available(info.precision, engine) if info.precision == "bf16" else (info.precision, None)
        notes = _warned(reason)
        run, model = _graph_runner(place, engine, used, threads), read_outside(info.model, place)
    elif info.format == "safetensors":
        model = load_model(place / WEIGHTS)
        run = eager.runner(core_of(model), "fp32", threads)
    else:
        module = eager.read(place) if info.format == "torch" else eager.read_package(place)
        run, model = eager.runner(module, info.precision, threads), read_outside(info.model, place)
    return CompiledModel(
        run,
        whole(run, info.model.spec, info.sizes, model),
        backend=engine,
        precision=used,
        about=info.model,
        sizes=info.sizes,
        folded=info.folded,
        notes=notes,
    )


# --- before ---------------------------------------------------------------------------------------------------------


def _expect_choice(format: str, precision: str) -> None:
    if format not in FORMATS:
        raise InputError(f"format: unknown {format!r}. {did_you_mean(str(format), FORMATS)}")
    if known_precision(precision) != "fp32" and format == "safetensors":
        raise InputError(
            f"precision: safetensors contains the trained weights in fp32, got {precision}. Choose another format, or "
            "compile the model on the machine that runs it"
        )
    engine = ENGINES[format]
    if engine in GRAPHS:
        GRAPHS[engine].library()


def _loaded(source: str | Path | None, name: str | None, size: tuple[int, int] | None) -> LoadedModel:
    """The model, built for images of a size."""
    loaded = load_any(source, name)
    model = loaded.model
    expect_model(model)
    if size is None or tuple(size) == model.preprocessing.size:
        return loaded
    if not has_input_size(model):
        raise InputError("--size: this model resizes every image by its own shape; leave the option out")
    if min(size) < 1:
        raise InputError(f"--size: expected a height and a width in pixels, got {size[0]} × {size[1]}")
    if sizes_of(model).fixed is not None:  # its weights depend on the size and are resampled by the loader
        published = source is None or str(source) in CATALOGUE
        if published:
            model = create_model(model.name, pretrained=True, img_size=size)
        else:
            model = from_pretrained(str(source), img_size=size)
    model.preprocessing = model.preprocessing.with_changes(size=size)
    return LoadedModel(model.eval(), loaded.classes, loaded.origin, loaded.task)


def _splits(
    source: str | Path | None, loaded: LoadedModel, task: Task, data: DataConfig | None, console: Console
) -> Splits[Any] | None:
    """A dataset with the model's classes; None if none is given and the weights do not belong to a run."""
    config = data or data_of_run(source)
    if config is None:
        return None
    try:
        splits = open_data(task, config, console)
    except DataError as error:
        if data is not None:
            raise
        _warned(f"the run's own data cannot be read: {error}")
        return None
    expect_classes(loaded, splits.classes)
    return splits


def _inputs(task: Task, model: AnyModel, dataset: Dataset[Any], count: int) -> list[Tensor]:
    """The core's inputs for a random sample of images, (1, C, H, W) each; always the same sample."""
    chosen = random.Random(0).sample(range(len(dataset)), min(len(dataset), count))
    images = []
    for index in sorted(chosen):
        try:
            images.append(task.prepare(model, dataset.load(index).input))
        except UnreadableImage:
            continue
    return inputs_of(model, images)


def _calibration(task: Task, model: AnyModel, splits: Splits[Any] | None) -> list[Tensor]:
    """Inputs from the training part: metrics are measured on the validation part, which must stay unseen."""
    if splits is None:
        raise InputError(
            "precision int8 needs images to compute the ranges of all maps from; pass --data with a few hundred images "
            "like those it will see"
        )
    found = _inputs(task, model, splits.train, IMAGES)
    if not found:
        raise InputError("precision int8: none of the training images can be read")
    return found


def _compared(task: Task, model: AnyModel, splits: Splits[Any] | None, notes: list[str]) -> list[Tensor]:
    """Inputs from the validation part, or random ones."""
    if splits is not None:
        return _inputs(task, model, splits.val, COMPARED)
    notes += _warned("no images are given, so the outputs are compared on random ones; pass real ones with --data")
    return inputs_of(model, task.random_inputs(model, COMPARED))


# --- writing --------------------------------------------------------------------------------------------------------


def _write(
    loaded: LoadedModel, folder: Path, format: Format, precision: Precision, calibration: list[Tensor]
) -> ExportInfo:
    """Write the model's files."""
    model, engine = loaded.model, ENGINES[format]
    folded: tuple[str, ...] = ()
    sizes = Sizes()
    if format == "safetensors":
        save_weights(model, folder / WEIGHTS, classes=loaded.classes)
    else:
        ready = prepared(model, form_for(engine, precision) if engine in GRAPHS else "program")
        if engine in GRAPHS:
            GRAPHS[engine].write(graph_of(ready, engine, precision, calibration), folder)
        else:
            _write_program(ready, folder, format, precision)
        write_outside(model, folder)
        folded, sizes = ready.done, ready.sizes
    return ExportInfo(
        format=format,
        precision=precision,
        engine=engine,
        model=describe(model, loaded.classes, loaded.task),
        size=sizes.fixed,
        multiple=sizes.multiple,
        reason=sizes.reason,
        folded=folded,
        versions={
            "metaformer": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            **versions(_PACKAGES),
        },
    )


def _write_program(ready: Prepared, folder: Path, format: Format, precision: Precision) -> None:
    core = eager.prepared(ready.core, precision)
    # Machine code takes the memory layout of its example for granted; ``eager.runner`` passes images in this one.
    images = ready.images.to(eager.DTYPES[precision], memory_format=torch.channels_last)
    original = core_of(ready.original)
    if precision != "fp32":  # it is called with the same images if tracing fails
        original = eager.prepared(original, precision)
    program = traced(core, images, ready.sizes, original=original)
    (eager.write if format == "torch" else eager.write_package)(program, folder)


def _metrics(
    task: Task, models: tuple[AnyModel, CompiledModel], splits: Splits[Any] | None, console: Console
) -> list[Mapping[str, float]]:
    """Metrics of the original and of the exported model on the validation part; empty without one."""
    if splits is None:
        return [{}, {}]
    found, batches = [], -(-len(splits.val) // BATCH)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for title, model in zip(("measuring the original", "measuring the export"), models, strict=True):
            advance = partial(progress.advance, progress.add_task(title, total=batches))
            options = EvaluationOptions(batch_size=BATCH, each_batch=advance)
            found.append(task.evaluate(model, splits.val, splits.classes, options).metrics)
    return found


def _expect_same(unfinished: Path, place: Path, info: ExportInfo) -> None:
    """Raise ``RunError`` if the outputs differ too much, and keep the files under a name that says so."""
    if info.comparison.difference <= info.comparison.bound:
        return
    aside = place.with_name(f"{place.name}-differs")
    shutil.rmtree(aside, ignore_errors=True)
    unfinished.rename(aside)
    raise RunError(
        f"the exported model's outputs differ by {info.comparison.difference:.1e} of the original's largest value, and "
        f"{info.precision} allows {info.comparison.bound:.0e}. The files are in {aside}; do not use them"
    )


def _move(unfinished: Path, place: Path) -> None:
    """Move a whole export into its place. A previous one is removed only afterwards."""
    previous = place.with_name(f".{place.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    if place.exists():  # a folder that is not empty cannot be replaced in one step
        os.replace(place, previous)
    os.replace(unfinished, place)
    shutil.rmtree(previous, ignore_errors=True)


# --- reading --------------------------------------------------------------------------------------------------------


def _graph_runner(place: Path, engine: Backend, precision: Precision, threads: int | None) -> Run:
    """The graph in a folder, ready to run; errors of the engine name the folder."""
    graph = GRAPHS[engine].read(place)
    try:
        return GRAPHS[engine].runner(graph, precision, threads)
    except InputError as error:
        raise InputError(f"{place}: {error}. If the files were truncated or changed, export again") from None


def _expect_machine(info: ExportInfo) -> None:
    """Machine code runs only on the kind of machine that compiled it."""
    built, here = info.versions.get("machine"), platform.machine()
    if info.format == "aot" and built != here:
        raise InputError(f"this export is machine code for {built}, and this machine is {here}; export it here again")


def _warned(note: str | None) -> list[str]:
    """A fallback as a list of notes, and as a warning."""
    if note is None:
        return []
    warnings.warn(note, FellBackWarning, stacklevel=3)
    return [note]
