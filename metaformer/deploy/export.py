"""A trained model as files for an engine, and back: written, read again from the disk, compared with the original.

In: a run's folder, a weights file or a published model. Out: a folder with the model and ``export.json`` beside it,
which says what it is; ``load_exported`` makes a model of it that is called as the original was.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from ..data.decode import UnreadableImage
from ..errors import DataError, InputError, RunError, did_you_mean
from ..factory.classifier import create_model
from ..files import replace_file
from ..inference.loaded import LoadedModel, load_any, task_of
from ..model.dense.detector import Detector
from ..recipe import DataConfig
from ..run.data import data_of_run, expect_classes, open_data
from ..spec.dense import DenseSpec
from ..tasks.task import EvaluationOptions, task_named
from ..version import __version__
from ..weights.description import Description, describe
from ..weights.hub import from_pretrained
from ..weights.safetensors_io import read_tensors, write_tensors
from ..weights.save import load_model, save_weights
from ..zoo.catalogue import CATALOGUE
from .compile import (
    GRAPHS,
    CompiledModel,
    FellBackWarning,
    Prepared,
    expect_threads,
    form_for,
    furthest,
    graph_of,
    prepared,
)
from .engines import torch as eager
from .engines.core import Run, core_inputs, core_of, whole
from .engines.graph import Sizes, sizes_of, traced
from .precision import BOUNDS, available, known_precision
from .quantization import calibration_images

Format = Literal["onnx", "openvino", "torch", "aot", "safetensors"]
FORMATS: tuple[str, ...] = get_args(Format)
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch", "aot": "torch", "safetensors": "torch"}
"""What runs each format."""
ABOUT, WEIGHTS, REGIONS = "export.json", "model.safetensors", "regions.safetensors"
COMPARED = 32
"""Images whose answers are compared number by number."""
CALIBRATED = 300
BATCH = 16
"""Images at a time where figures are measured."""
_PACKAGES = ("torch", "openvino", "nncf", "onnx", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written, and how it compares with the original."""

    folder: Path
    format: str
    task: str
    """The model's."""
    precision: str
    """What is really in the files."""
    difference: float
    """The largest one, as a share of the original's largest value."""
    images: int
    """So many were compared number by number."""
    before: Mapping[str, float] = field(default_factory=dict)
    """Figures of the original on labeled images, by name; none without labels."""
    after: Mapping[str, float] = field(default_factory=dict)
    """Figures of what was written."""
    notes: tuple[str, ...] = ()
    """Every fallback in words."""


def export(
    source: str | Path | None,
    out: str | Path,
    *,
    format: str = "onnx",
    precision: str = "fp32",
    name: str | None = None,
    data: DataConfig | None = None,
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> Export:
    """Write a trained model for an engine, read it again from the disk and compare it with the original.

    Args:
        source: a run's folder, a weights file, a hub id or a name of the zoo.
        out: the folder to write. It appears whole, and only once what is in it has answered as the original does.
        format: ``onnx``, ``openvino``, ``torch`` (a ``torch.export`` program), ``aot`` (AOTInductor's machine code for
            this kind of machine) or ``safetensors``.
        precision: ``fp32``, ``bf16`` or ``int8``; what the engine or this machine cannot do falls back to fp32 with a
            warning.
        name: a row of the zoo, for files of others.
        data: the images to compare on, and to calibrate int8 with; those of the run where left out.
        size: height and width of a classifier's images; those of its preprocessing where left out.
        overwrite: whether an export that is in ``out`` already may be replaced.
        console: where to say what is being done.

    Raises:
        InputError: a model that cannot be exported (the message names the module or the operation), an engine that is
            not installed, a place that is taken; ``RunError`` where the answers differ beyond what the precision
            explains: the files are then left under a name that ends in ``-differs``.
    """
    console = console or Console(stderr=True)
    place = Path(out).expanduser()
    _expect_choice(format, precision)
    _expect_free(place, overwrite)
    trained = _opened(source, name, size)
    sets = _images(source, trained, data, console)
    used, reason = available(precision, ENGINES[format])
    notes = _told(reason)
    original: Any = trained.model.cpu().eval()
    calibration = _calibration(original, sets) if precision == "int8" else []
    compared = _compared(original, sets, notes)
    unfinished = place.with_name(f".{place.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        _write(trained, unfinished, format, used, calibration)
        again = load_exported(unfinished)
        found = furthest(again.run, core_of(original), compared)
        result = _judged(trained, again, sets, place, format, used, found, compared, notes, console)
        _note_comparison(unfinished, result)
        _expect_same(unfinished, place, result)
        _move(unfinished, place)
    except OSError as error:
        raise RunError(f"{place} cannot be written: {error.strerror}. Choose another folder with --out") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return result


def load_exported(folder: str | Path, *, threads: int | None = None) -> CompiledModel:
    """The model that ``export`` wrote, called as the original was.

    Args:
        folder: what ``export`` was given as ``out``.
        threads: of the CPU; as many as the engine thinks right where left out.

    Raises:
        InputError: no export there, a damaged one, or an engine that is not installed.
    """
    expect_threads(threads)
    place = Path(folder).expanduser()
    about = _about(place)
    notes = _told(_unlike(about))
    description = Description.from_dict(about["model"])
    precision, kind = about["precision"], about["format"]
    engine = ENGINES[kind]
    used, reason = available(precision, engine) if precision == "bf16" else (precision, None)
    notes += _told(reason)
    if engine in GRAPHS:
        run = _run_of(place, engine, used, threads)
        model = _surroundings(description, place)
    elif kind == "safetensors":
        model = load_model(place / WEIGHTS)
        run = eager.runner(core_of(model), "fp32", threads)
    else:
        module = eager.read(place) if kind == "torch" else eager.read_package(place)
        # the program's numbers stay as they were written, whatever this machine is quick at
        run, used = eager.runner(module, precision, threads), precision
        model = _surroundings(description, place)
    fixed = about["size"]
    return CompiledModel(
        run,
        whole(model, run),
        backend=engine,
        precision=used,
        about=description,
        sizes=Sizes(tuple(fixed) if fixed else None, about["multiple"], about["reason"]),
        folded=tuple(about["folded"]),
        notes=tuple(notes),
    )


# --- before ---------------------------------------------------------------------------------------------------------


def _expect_choice(format: str, precision: str) -> None:
    if format not in FORMATS:
        raise InputError(f"format: unknown {format!r}. {did_you_mean(str(format), FORMATS)}")
    if known_precision(precision) != "fp32" and format == "safetensors":
        raise InputError(
            f"precision: safetensors holds the weights as they were trained, in fp32; got {precision}. Take another "
            "format, or compile the model where it runs"
        )
    if ENGINES[format] in GRAPHS:
        GRAPHS[ENGINES[format]].library()


def _expect_free(place: Path, overwrite: bool) -> None:
    """Nothing but an earlier export is ever replaced, and that only when asked."""
    if not place.exists():
        return
    if not place.is_dir():
        raise RunError(f"{place} is a file; expected a folder for the export. Choose another with --out")
    inside = {entry.name for entry in place.iterdir()}
    if inside and ABOUT not in inside:
        raise RunError(f"{place} holds what no export wrote: {sorted(inside)[0]}. Choose another folder with --out")
    if inside and not overwrite:
        raise RunError(f"{place} holds an export already; replace it with --overwrite, or choose another with --out")


def _opened(source: str | Path | None, name: str | None, size: tuple[int, int] | None) -> LoadedModel:
    """The model, for images of a size."""
    trained = load_any(source, name)
    model: Any = trained.model
    if size is None or tuple(size) == model.preprocessing.size:
        return trained
    if isinstance(model.spec, DenseSpec):
        raise InputError("--size is for classifiers: a detector or a segmenter says itself how images are resized")
    if min(size) < 1:
        raise InputError(f"--size: expected a height and a width in pixels, got {size[0]} × {size[1]}")
    if sizes_of(model).fixed is not None:
        published = str(source) in CATALOGUE or source is None
        rebuilt: Any = create_model(model.name, pretrained=True, img_size=size) if published else None
        model = rebuilt or from_pretrained(str(source), img_size=size)
    model.preprocessing = model.preprocessing.with_changes(size=size)
    return LoadedModel(model.eval(), trained.classes, trained.origin)


def _images(source: Any, trained: LoadedModel, data: DataConfig | None, console: Console) -> Any:
    """A data set whose classes are the model's, or None where none was named and the weights are no run's."""
    choice = data or data_of_run(source)
    if choice is None:
        return None
    try:
        sets = open_data(task_named(task_of(source)), choice, console)
    except DataError as error:
        if data is not None:
            raise
        warnings.warn(f"the run's own images cannot be read: {error}", FellBackWarning, stacklevel=3)
        return None
    expect_classes(trained, sets.classes)
    return sets


def _seen(model: Any, images: Any, count: int) -> list[Tensor]:
    """Up to so many images of a set, drawn by a seed, as the model is called with them: (C, H, W) each."""
    chosen = random.Random(0).sample(range(len(images)), min(len(images), count))
    task, seen = task_named(describe(model).task), []
    for index in sorted(chosen):
        try:
            loaded = images.load(index)
        except UnreadableImage:
            continue
        seen.append(task.prepare(model, loaded[0] if isinstance(loaded, tuple) else loaded))
    return seen


def _calibration(model: Any, sets: Any) -> list[Tensor]:
    """What the core sees of images that were trained on: those judged on must stay unseen."""
    if sets is None:
        raise InputError(
            "precision int8 needs images to take the ranges of all maps from; name some with --data, a few hundred "
            "like those it will see"
        )
    seen = _seen(model, sets.train, CALIBRATED)
    if isinstance(model.spec, DenseSpec) and not model.spec.finds_objects:
        return [one[None] for one in seen]  # any size: a segmenter resizes each to its short side
    return calibration_images(model, [[one] for one in seen])


def _compared(model: Any, sets: Any, notes: list[str]) -> list[Tensor]:
    """What the core sees of the images to compare on: the set's, or drawn ones."""
    if sets is not None:
        return [core_inputs(model, one[None]) for one in _seen(model, sets.val, COMPARED)]
    notes += _told("no images are known, so the answers are compared on drawn ones; name real ones with --data")
    drawn = task_named(describe(model).task).random_inputs(model, COMPARED)
    return [core_inputs(model, one[None]) for one in drawn]


# --- writing --------------------------------------------------------------------------------------------------------


def _write(trained: LoadedModel, folder: Path, format: str, precision: str, calibration: list[Tensor]) -> None:
    model: Any = trained.model
    ready = prepared(model, "program" if format in ("torch", "aot") else form_for(ENGINES[format], precision))
    if ENGINES[format] in GRAPHS:
        engine = ENGINES[format]
        GRAPHS[engine].write(graph_of(ready, engine, precision, calibration), folder)
    elif format == "safetensors":
        save_weights(model, folder / WEIGHTS, classes=trained.classes)
    else:
        _write_program(ready, folder, format, precision)
    if isinstance(model, Detector) and model.spec.finds_masks and format != "safetensors":
        write_tensors(folder / REGIONS, model.net.get_submodule("roi_heads").state_dict())
    free = format == "safetensors"
    sizes = Sizes() if free else ready.sizes
    about = {
        "format": format,
        "precision": precision,
        "engine": ENGINES[format],
        "model": describe(model, trained.classes).to_dict(),
        "size": sizes.fixed,
        "multiple": sizes.multiple,
        "reason": sizes.reason,
        "folded": [] if free else list(ready.done),
        "versions": _versions(),
    }
    _write_about(folder, about)


def _write_program(ready: Prepared, folder: Path, format: str, precision: str) -> None:
    core = eager.prepared(ready.core, precision)
    # Trap: machine code takes for granted how the example lies in memory; ``eager.runner`` gives images so.
    images = ready.images.to(eager.DTYPES[precision], memory_format=torch.channels_last)
    # looked at in its own precision: the mixers that cannot be traced are looked for in the same numbers
    original = eager.prepared(core_of(ready.original), precision) if precision != "fp32" else core_of(ready.original)
    program = traced(core, images, ready.sizes, original=original)
    (eager.write if format == "torch" else eager.write_package)(program, folder)


def _versions() -> dict[str, str]:
    """Of everything that had a part in it."""
    found = {"metaformer": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _write_about(folder: Path, about: Mapping[str, Any]) -> None:
    replace_file(folder / ABOUT, (json.dumps(about, indent=2) + "\n").encode())


def _judged(
    trained: LoadedModel,
    again: CompiledModel,
    sets: Any,
    place: Path,
    format: str,
    precision: str,
    difference: float,
    compared: list[Tensor],
    notes: list[str],
    console: Console,
) -> Export:
    """The outcome, with figures on labeled images where there are any."""
    before, after = _figures(trained.model, again, sets, console) if sets is not None else ({}, {})
    return Export(
        folder=place,
        format=format,
        task=describe(trained.model).task,
        precision=precision,
        difference=difference,
        images=len(compared),
        before=before,
        after=after,
        notes=tuple(dict.fromkeys((*notes, *again.notes))),
    )


def _figures(model: Any, again: Any, sets: Any, console: Console) -> Iterator[Mapping[str, float]]:
    """What the original, and then the export, come to on the images to judge on."""
    task, batches = task_named(describe(model).task), -(-len(sets.val) // BATCH)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for when, one in (("before", model), ("after", again)):
            advance = partial(progress.advance, progress.add_task(f"measuring {when}", total=batches))
            options = EvaluationOptions(batch_size=BATCH, each_batch=advance)
            yield task.evaluate(one, sets.val, sets.classes, options).metrics


def _note_comparison(folder: Path, result: Export) -> None:
    """What came of the comparison, into ``export.json``."""
    about = _about(folder)
    comparison = {
        "difference": result.difference,
        "bound": BOUNDS[result.precision],
        "images": result.images,
        "before": dict(result.before),
        "after": dict(result.after),
    }
    _write_about(folder, about | {"comparison": comparison, "notes": list(result.notes)})


def _expect_same(unfinished: Path, place: Path, result: Export) -> None:
    """Raises ``RunError`` where the answers differ too much, and leaves the files under a name that says so."""
    bound = BOUNDS[result.precision]
    if result.difference <= bound:
        return
    aside = place.with_name(f"{place.name}-differs")
    shutil.rmtree(aside, ignore_errors=True)
    unfinished.rename(aside)
    raise RunError(
        f"what was written answers differently: by {result.difference:.1e} of the original's largest value, and "
        f"{result.precision} explains {bound:.0e}. The files are in {aside}; do not use them"
    )


def _move(unfinished: Path, place: Path) -> None:
    """Into its place, whole; an earlier export steps aside first."""
    earlier = place.with_name(f".{place.name}.earlier")
    shutil.rmtree(earlier, ignore_errors=True)
    if place.exists():
        os.replace(place, earlier)
    os.replace(unfinished, place)
    shutil.rmtree(earlier, ignore_errors=True)


# --- reading --------------------------------------------------------------------------------------------------------


_KINDS: dict[str, Any] = {
    "format": str,
    "precision": str,
    "model": dict,
    "size": (list, type(None)),
    "multiple": int,
    "reason": str,
    "folded": list,
    "versions": dict,
}
"""What ``export.json`` must have to be read."""


def _about(folder: Path) -> dict[str, Any]:
    """What ``export.json`` says."""
    file = folder / ABOUT
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder}: no export here; expected a folder that `metaformer export` wrote") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from None
    keys = about if isinstance(about, dict) else {}
    wrong = [key for key, kind in _KINDS.items() if key not in keys or not isinstance(about[key], kind)]
    if not wrong:
        allowed = {"format": FORMATS, "precision": tuple(BOUNDS)}
        wrong = [key for key, values in allowed.items() if about[key] not in values]
    if wrong:
        raise InputError(f"{file}: not written by `metaformer export`: {wrong[0]} is wrong")
    return about


def _run_of(place: Path, engine: str, precision: str, threads: int | None) -> Run:
    """The graph in a folder, ready to run; what the engine says against it is told with the place."""
    graph = GRAPHS[engine].read(place)
    try:
        run: Run = GRAPHS[engine].runner(graph, precision, threads)
    except InputError as error:
        raise InputError(f"{place}: {error}. If the files were cut or changed, export again") from None
    return run


def _unlike(about: Mapping[str, Any]) -> str | None:
    """Machine code runs on the kind of machine it was made for."""
    made, here = about["versions"].get("machine"), platform.machine()
    if about["format"] != "aot" or made == here:
        return None
    raise InputError(f"this export holds machine code for {made} and this machine is {here}; export it here again")


def _surroundings(description: Description, folder: Path) -> Any:
    """What stays in PyTorch around the graph; of a classifier and a segmenter nothing."""
    spec = description.spec
    if not isinstance(spec, DenseSpec) or not spec.finds_objects:
        return None
    # the graph holds the backbone, so mixers, which may be Python objects, are not needed to build the rest
    model: Any = description.build("identity" if spec.mixers else None).eval().requires_grad_(False)
    if spec.finds_masks:
        model.net.get_submodule("roi_heads").load_state_dict(read_tensors(folder / REGIONS)[0])
    return model


def _told(note: str | None) -> list[str]:
    """A fallback in words, warned of."""
    if note is None:
        return []
    warnings.warn(note, FellBackWarning, stacklevel=3)
    return [note]
