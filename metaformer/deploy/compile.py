"""``compile``: a model as the best engine present runs it, folded, and checked against the original.

Steps: a copy in evaluation mode, folded; maps instead of tokens for graph engines; traced, converted, compiled; run
once and compared. Whatever goes wrong on the way ends in PyTorch with a warning, never in a wrong answer.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import InputError, MissingExtraError, did_you_mean
from ..model.classifier import Classifier
from ..model.dense.detector import Detector, Segmenter
from ..model.inputs import check_images
from ..model.timm_cnn import TimmClassifier
from ..spec.model import ModelSpec
from .channels_first import as_maps, written_out
from .engines import onnxruntime, openvino
from .engines import torch as eager
from .engines.core import Run, answers, coarsest_stride, core_of, whole
from .engines.graph import Sizes, example, foreign_mixers, sizes_of, traced, without_complex
from .fold import fold
from .precision import BOUNDS, available, difference, known_precision, magnitude
from .quantization import calibration_images, quantized, scores_of

BACKENDS = ("openvino", "onnxruntime", "torch")
"""Engines, the one that ``auto`` takes first first."""
GRAPHS: dict[str, Any] = {"openvino": openvino, "onnxruntime": onnxruntime}
Form = Literal["modules", "program", "maps", "tokens"]
"""For PyTorch line by line; for PyTorch as a program; for graph engines with maps, or with tokens, in the blocks."""
_WRITTEN: dict[str, Callable[[nn.Module], nn.Module]] = {"maps": as_maps, "tokens": written_out}
_MODELS = (Classifier, TimmClassifier, Detector, Segmenter)


class FellBackWarning(UserWarning):
    """Something else than what was asked for is used, and why."""


class CompiledModel(nn.Module):
    """A model run by an engine; called as the model is, and it answers as the model does, in float32."""

    def __init__(
        self,
        run: Run,
        call: Callable[[Any], Any],
        *,
        backend: str,
        precision: str,
        about: Any,
        sizes: Sizes,
        folded: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.run = run
        self._call = (call,)  # in a tuple: a detector in here is no part that moves or learns
        self.backend, self.precision, self.sizes = backend, precision, sizes
        self.folded, self.notes = folded, notes
        self.name, self.spec, self.preprocessing = about.name, about.spec, about.preprocessing
        self.eval()

    @property
    def num_classes(self) -> int:
        """Width of the scores."""
        return self.spec.num_classes

    def forward(self, images: Any) -> Any:
        """(B, C, H, W) to what the model gives, float32; for a detector images (C, H, W) to the objects in each.

        Raises:
            InputError: other channels, or a size that the compiled graph does not take.
        """
        if getattr(self.spec, "finds_objects", False):
            return self._call[0](images)
        self._check(images)
        return self._call[0](images.detach().float())

    def _check(self, images: Tensor) -> None:
        check_images(images, self.spec.in_chans)
        height, width = int(images.shape[2]), int(images.shape[3])
        self.sizes.check(height, width)
        if isinstance(self.spec, ModelSpec) and min(map(min, self.spec.grids((height, width)))) < 1:
            raise InputError(f"images: {height} × {width} pixels leave no token in the last stage; feed larger images")

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Raises: a compiled graph lives in this process; what is meant to last is exported."""
        raise InputError(
            "a compiled model cannot be pickled: write it with metaformer.export, read it with load_exported"
        )

    def __deepcopy__(self, memo: Any) -> CompiledModel:
        """What runs it cannot be copied, and calls do not change it: copies share it."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def extra_repr(self) -> str:
        """Engine and precision."""
        return f"{self.name}, backend={self.backend}, precision={self.precision}"


@dataclass(frozen=True)
class Prepared:
    """A model on its way to an engine."""

    original: nn.Module
    """In evaluation mode."""
    folded: nn.Module
    core: nn.Module
    """What the engine computes, folded."""
    sizes: Sizes
    images: Tensor
    """An example of what the core takes, (2, C, H, W)."""
    graph: bool
    """Whether it is on its way to a graph engine, whose graph has to stand other sizes."""

    @property
    def done(self) -> tuple[str, ...]:
        """What was folded."""
        return tuple(getattr(self.folded, "folded", ()))


def compile(
    model: nn.Module,
    *,
    precision: str = "fp32",
    backend: str = "auto",
    calibration: Iterable[Any] | str | Path | None = None,
    threads: int | None = None,
) -> CompiledModel:
    """A model as an engine runs it: folded, compiled, compared with the original.

    Args:
        model: a classifier, detector or segmenter of this library; it is left untouched.
        precision: ``fp32``, ``bf16`` or ``int8``. What the engine or the machine cannot do falls back to fp32 with a
            warning.
        backend: ``openvino``, ``onnxruntime``, ``torch``, or ``auto``: the first of them that is installed, PyTorch
            for a model on a GPU.
        calibration: for int8 some hundred images like those it will see: batches (B, C, H, W) prepared as
            ``model.preprocessing`` says, or a folder. Images (C, H, W) in [0, 1] for a detector.
        threads: of the CPU; as many as the engine thinks right where left out.

    Returns:
        A module that is called as the model is. ``backend`` and ``precision`` are what is really used, ``notes`` says
        every fallback in words, each of which was a ``FellBackWarning`` too.

    Raises:
        MissingExtraError: the engine asked for is not installed; the message names the extra.
        InputError: no such engine or precision, calibration images that are missing or of another shape.
    """
    if not isinstance(model, _MODELS):
        raise InputError(f"model: expected a classifier, detector or segmenter of this library, got {_kind(model)}")
    expect_threads(threads)
    device = next(model.parameters(), torch.empty(0)).device
    engine = chosen_backend(backend, device)
    if known_precision(precision) == "int8" or calibration is not None:
        images = calibration_images(_on_cpu(model), calibration)
    else:
        images = []
    used, reason = available(precision, engine, device)
    notes = [] if reason is None else [reason]
    try:
        compiled = _compiled(model, engine, used, images, threads)
    except MissingExtraError:
        raise
    except Exception as error:  # an engine fails with whatever it likes
        notes.append(f"{engine} cannot run {_kind(model)} {getattr(model, 'name', '')}: {_first(error)}")
        notes[-1] += "; it runs in PyTorch as it is"
        compiled = _as_it_is(model, threads)
    compiled.notes = (*notes, *compiled.notes)
    for note in compiled.notes:
        warnings.warn(note, FellBackWarning, stacklevel=2)
    return compiled


def chosen_backend(name: str, device: torch.device | str = "cpu") -> str:
    """The engine for a name and the device that the model is on.

    Raises:
        InputError: no such engine, or (``MissingExtraError``) it is not installed.
    """
    if name == "auto":
        if torch.device(device).type != "cpu":
            return "torch"
        return next(one for one in BACKENDS if one == "torch" or importlib.util.find_spec(one) is not None)
    if name not in BACKENDS:
        raise InputError(f"backend: unknown {name!r}. {did_you_mean(str(name), ('auto', *BACKENDS))}")
    if name in GRAPHS:
        GRAPHS[name].library()
    return name


def expect_threads(threads: int | None) -> None:
    """Raises ``InputError`` for what is no number of threads."""
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads: expected a whole number from 1, or None for as many as fit, got {threads!r}")


def prepared(model: nn.Module, form: Form) -> Prepared:
    """A model folded, in the form that what runs it likes; on the CPU for graph engines, where the model is else.

    Raises:
        InputError: no graph can hold it.
    """
    original = copy.deepcopy(model).eval().requires_grad_(False)
    original = original.cpu() if form in _WRITTEN else original
    folded = fold(original)
    graph = form != "modules"
    sizes = sizes_of(original) if graph else Sizes()
    core = without_complex(core_of(_WRITTEN[form](copy.deepcopy(folded)))) if form in _WRITTEN else core_of(folded)
    spec: Any = original.spec
    images = example(spec.in_chans, sizes if graph else _own(original), coarsest_stride(original))
    return Prepared(original, folded, core, sizes, images, graph)


def _own(model: Any) -> Sizes:
    """The size that a model is built for, for an example in PyTorch."""
    spec: Any = model.spec
    return Sizes() if isinstance(model, (Detector, Segmenter)) and not spec.square else Sizes(fixed=spec.img_size)


def form_for(engine: str, precision: str) -> Form:
    """What a model looks like on its way to an engine."""
    form: Form = GRAPHS[engine].form(precision) if engine in GRAPHS else "modules"
    return form


def graph_of(ready: Prepared, engine: str, precision: str, images: list[Tensor]) -> Any:
    """The engine's own graph of what was prepared.

    Raises:
        InputError: it cannot be traced or converted; the message names the module or the operation.
    """
    original = core_of(ready.original)
    program = traced(ready.core, ready.images, ready.sizes, original=original, plain_attention=engine == "onnxruntime")
    try:
        graph = GRAPHS[engine].converted(program)
    except InputError as error:
        own = foreign_mixers(original)
        raise InputError(f"{error}{' (mixers of your own: ' + ', '.join(own) + ')' if own else ''}") from error
    return quantized(graph, images, scores_of(ready.original)) if precision == "int8" else graph


def _compiled(
    model: nn.Module, engine: str, precision: str, images: list[Tensor], threads: int | None
) -> CompiledModel:
    ready = prepared(model, form_for(engine, precision))
    notes: list[str] = []
    if engine in GRAPHS:
        run = GRAPHS[engine].runner(graph_of(ready, engine, precision, images), precision, threads)
    else:
        run = _in_torch(ready, precision, threads, notes)
    device = next(ready.original.parameters(), torch.empty(0)).device
    usual = _usual(ready)
    seen = images[:8] if precision == "int8" else [ready.images, _others(ready), usual, usual, usual[:1]]
    _expect_same(run, ready.original, [one.to(device) for one in seen], precision)
    return CompiledModel(
        run,
        whole(ready.folded, run),
        backend=engine,
        precision=precision,
        about=ready.original,
        sizes=ready.sizes,
        folded=ready.done,
        notes=tuple(notes),
    )


def _others(ready: Prepared) -> Tensor:
    """Images of another number and, where sizes are free, of another size than the example's.

    Trap: a graph that took a size for a constant answers its own example rightly and all else wrongly.
    """
    height, width = ready.images.shape[2:]
    if ready.sizes.fixed is None and ready.graph:
        step = ready.sizes.multiple if ready.sizes.multiple > 1 else max(height // 2 - 1, 1)
        height, width = height + 2 * step, width + step
    draws = torch.Generator().manual_seed(1)
    return torch.randn(3, ready.images.shape[1], height, width, generator=draws)


def _usual(ready: Prepared) -> Tensor:
    """Images of the size that the model was built for, where it has one.

    They are compared twice: in OpenVINO what comes a second time gets a graph of its own.
    """
    size = _own(ready.original).fixed or ready.images.shape[2:]
    draws = torch.Generator().manual_seed(2)
    return torch.randn(2, ready.images.shape[1], *size, generator=draws)


def _in_torch(ready: Prepared, precision: str, threads: int | None, notes: list[str]) -> Run:
    """Inductor's code where it can be made, the folded modules line by line where not; ``notes`` takes the reason."""
    core = eager.prepared(copy.deepcopy(ready.core), precision)
    run = eager.runner(eager.compiled(core), precision, threads)
    try:
        run(ready.images.to(next(core.parameters(), torch.empty(0)).device))
    except Exception as error:  # compilers fail in many ways
        notes.append(f"torch.compile failed ({_first(error)}); PyTorch runs the folded modules line by line")
        return eager.runner(core, precision, threads)
    return run


def _expect_same(run: Run, original: nn.Module, images: list[Tensor], precision: str) -> None:
    """Raises ``InputError`` where an engine's answers differ from the original's beyond what the precision explains."""
    found = furthest(run, core_of(original), images)
    if found > BOUNDS[precision]:
        raise InputError(
            f"its answers differ from the original's by {found:.1e} of their largest value, and {precision} explains "
            f"{BOUNDS[precision]:.0e}"
        )


def furthest(run: Run, original: nn.Module, batches: Iterable[Tensor]) -> float:
    """How far an engine's answers are from those of the original core, over all images (B, C, H, W).

    The largest difference as a share of the original's largest value; of several answers the one that differs most.
    """
    apart: dict[int, float] = {}
    largest: dict[int, float] = {}
    for images in batches:
        for i, (mine, theirs) in enumerate(zip(run(images), answers(original, images), strict=True)):
            apart[i] = max(apart.get(i, 0.0), difference(mine, theirs))
            largest[i] = max(largest.get(i, 0.0), magnitude(theirs))
    return max((apart[i] / max(largest[i], 1e-12) for i in apart), default=0.0)


def _as_it_is(model: nn.Module, threads: int | None) -> CompiledModel:
    """The original in PyTorch, line by line."""
    original = copy.deepcopy(model).eval().requires_grad_(False)
    run = eager.runner(core_of(original), "fp32", threads)
    return CompiledModel(run, whole(original, run), backend="torch", precision="fp32", about=original, sizes=Sizes())


def _on_cpu(model: nn.Module) -> nn.Module:
    """The model where images are prepared: a detector resizes on its own device."""
    device = next(model.parameters(), torch.empty(0)).device
    return model if device.type == "cpu" else copy.deepcopy(model).cpu()


def _kind(model: object) -> str:
    return type(model).__name__


def _first(error: Exception) -> str:
    """The first line of what went wrong."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return line if isinstance(error, InputError) else f"{type(error).__name__}: {line}"
