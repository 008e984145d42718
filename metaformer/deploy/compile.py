"""A model run by an engine: folded, compiled, compared with the original before it is returned.

In: a model in memory. Out: a ``CompiledModel``, which is called as the model is. What an engine cannot do falls back to
PyTorch or float32 with a warning; a compiled model never returns other numbers than the original.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn

from ..errors import InputError, MissingExtraError, did_you_mean
from ..model.dense.build import AnyModel
from ..types import Objects
from ..weights.description import Description
from .channels_first import as_maps, with_explicit_norms
from .engines import onnxruntime, openvino
from .engines import torch as eager
from .engines.core import (
    GraphEngine,
    Run,
    coarsest_stride,
    core_of,
    description_of,
    expect_model,
    outputs,
    score_outputs,
    usual_size,
    whole,
)
from .engines.graph import Sizes, example, foreign_mixers, sizes_of, traced, without_complex
from .fold import fold
from .precision import BOUNDS, Precision, available, difference, known_precision, magnitude
from .quantization import Calibration, calibration_images, quantized

Backend = Literal["openvino", "onnxruntime", "torch"]
BACKENDS: tuple[Backend, ...] = ("openvino", "onnxruntime", "torch")
"""Engines in the order in which ``auto`` tries them."""
GRAPHS: dict[str, GraphEngine] = {"openvino": openvino, "onnxruntime": onnxruntime}
Form = Literal["modules", "program", "maps", "tokens"]
"""For PyTorch as modules; for PyTorch as a program; for graph engines with maps, or with tokens, in the blocks."""
_FOR_GRAPHS: dict[str, Callable[[nn.Module], nn.Module]] = {"maps": as_maps, "tokens": with_explicit_norms}


class FellBackWarning(UserWarning):
    """Another engine or precision than the requested one is used; the message says why."""


class CompiledModel(nn.Module):
    """A model run by an engine. It is called like the model and returns the same, in float32.

    Args:
        run: the engine.
        call: the whole model, its core computed by ``run``.
        backend: name of the engine.
        precision: of the engine.
        about: the model.
        sizes: image sizes that the engine takes.
        folded: what was folded.
        notes: fallbacks, one sentence each.
    """

    def __init__(
        self,
        run: Run,
        call: Callable[[Any], Any],
        *,
        backend: Backend,
        precision: Precision,
        about: Description,
        sizes: Sizes,
        folded: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.run = run
        self._call = (call,)  # in a tuple, so that a detector is not registered as a submodule
        self.backend, self.precision, self.sizes = backend, precision, sizes
        self.folded, self.notes = tuple(folded), tuple(notes)
        self.about = about
        self.name, self.spec, self.preprocessing = about.name, about.spec, about.preprocessing
        self.eval()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.spec.num_classes

    if TYPE_CHECKING:

        @overload
        def __call__(self, images: Tensor) -> Tensor: ...

        @overload
        def __call__(self, images: Sequence[Tensor]) -> list[Objects]: ...

        def __call__(self, images: Tensor | Sequence[Tensor]) -> Tensor | list[Objects]:
            """(B, C, H, W) to scores; for a detector images (C, H, W) to the objects in each."""

    def forward(self, images: Any) -> Any:
        """(B, C, H, W) to the model's output, float32; for a detector images (C, H, W) to the objects in each.

        Raises:
            InputError: another number of channels, or a size that the compiled graph does not take.
        """
        return self._call[0](images)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Raises: a compiled graph exists in this process only."""
        raise InputError(
            "a compiled model cannot be pickled: write it with metaformer.export, read it with load_exported"
        )

    def __deepcopy__(self, memo: Any) -> CompiledModel:
        """A copy that shares the engine, which cannot be copied and is not changed by calls."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def extra_repr(self) -> str:
        """Engine and precision."""
        return f"{self.name}, backend={self.backend}, precision={self.precision}"


@dataclass(frozen=True)
class Prepared:
    """A model in the form that an engine takes."""

    original: AnyModel
    """In evaluation mode."""
    folded: AnyModel
    core: nn.Module
    """The part that the engine computes, folded."""
    sizes: Sizes
    images: Tensor
    """An example input of the core, (2, C, H, W)."""
    graph: bool
    """Whether it becomes a graph, which must be valid for other sizes too."""

    @property
    def done(self) -> tuple[str, ...]:
        """What was folded."""
        return tuple(getattr(self.folded, "folded", ()))


def compile(
    model: AnyModel,
    *,
    precision: Precision = "fp32",
    backend: Backend | Literal["auto"] = "auto",
    calibration: Calibration | None = None,
    threads: int | None = None,
) -> CompiledModel:
    """Fold a model, compile it for an engine and compare it with the original.

    Args:
        model: a classifier, detector or segmenter of this library; it is not changed.
        precision: ``fp32``, ``bf16`` or ``int8``. If the engine or the machine lacks it, fp32 is used with a warning.
        backend: ``openvino``, ``onnxruntime``, ``torch``, or ``auto``: the first of them that is installed, and PyTorch
            for a model on a GPU.
        calibration: for int8, some hundred images like those it will see: batches (B, C, H, W) prepared as
            ``model.preprocessing`` says, or a folder. For a detector images (C, H, W) in [0, 1].
        threads: CPU threads; the engine's choice if None.

    Returns:
        A module that is called like the model. ``backend`` and ``precision`` are those that are used; ``notes`` has one
        sentence for each fallback, which was also a ``FellBackWarning``.

    Raises:
        MissingExtraError: the requested engine is not installed; the message names the extra.
        InputError: an unknown engine or precision; calibration images that are missing or of another shape.
    """
    expect_model(model)
    expect_threads(threads)
    device = _device_of(model)
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
    except Exception as error:  # engines raise many kinds of exceptions
        notes.append(
            f"{engine} cannot run {type(model).__name__} {model.name}: {_first_line(error)}; PyTorch runs it unchanged"
        )
        compiled = _unchanged(model, threads)
    compiled.notes = (*notes, *compiled.notes)
    for note in compiled.notes:
        warnings.warn(note, FellBackWarning, stacklevel=2)
    return compiled


def chosen_backend(name: str, device: torch.device | str = "cpu") -> Backend:
    """The engine of a name for the device of a model.

    Raises:
        InputError: there is no such engine, or (``MissingExtraError``) it is not installed.
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
    """Raise ``InputError`` unless this is a number of threads or None."""
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads: expected an integer of at least 1, or None, got {threads!r}")


def prepared(model: AnyModel, form: Form) -> Prepared:
    """A folded copy of a model in one form; on the CPU for graph engines, else on the model's device.

    Raises:
        InputError: no graph can express it.
    """
    original = copy.deepcopy(model).eval().requires_grad_(False)
    original = original.cpu() if form in _FOR_GRAPHS else original
    folded = fold(original)
    graph = form != "modules"
    sizes = sizes_of(original) if graph else Sizes()
    if form in _FOR_GRAPHS:
        core = without_complex(core_of(_FOR_GRAPHS[form](copy.deepcopy(folded))))
    else:
        core = core_of(folded)
    example_sizes = sizes if graph else Sizes(fixed=usual_size(original))
    images = example(original.spec.in_chans, example_sizes, coarsest_stride(original))
    return Prepared(original, folded, core, sizes, images, graph)


def form_for(engine: str, precision: str) -> Form:
    """The form that an engine takes."""
    return GRAPHS[engine].form(precision) if engine in GRAPHS else "modules"


def graph_of(ready: Prepared, engine: str, precision: str, images: list[Tensor]) -> Any:
    """The engine's graph of a prepared model, for int8 calibrated on ``images``.

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
    return quantized(graph, images, score_outputs(ready.original)) if precision == "int8" else graph


def _compiled(
    model: AnyModel, engine: Backend, precision: Precision, images: list[Tensor], threads: int | None
) -> CompiledModel:
    ready = prepared(model, form_for(engine, precision))
    notes: list[str] = []
    if engine in GRAPHS:
        run = GRAPHS[engine].runner(graph_of(ready, engine, precision, images), precision, threads)
    else:
        run = _in_torch(ready, precision, threads, notes)
    device, usual = _device_of(ready.original), _usual_images(ready)
    # The usual size is compared twice: in OpenVINO a size that comes again gets a graph of its own.
    compared = images[:8] if precision == "int8" else [ready.images, _other_images(ready), usual, usual, usual[:1]]
    _expect_same(run, ready.original, [one.to(device) for one in compared], precision)
    about = description_of(ready.original)
    return CompiledModel(
        run,
        whole(run, about.spec, ready.sizes, ready.folded),
        backend=engine,
        precision=precision,
        about=about,
        sizes=ready.sizes,
        folded=ready.done,
        notes=notes,
    )


def _other_images(ready: Prepared) -> Tensor:
    """Images of another batch size and, if sizes are free, of another size than the example.

    A graph that took a size for a constant is right for its example and wrong for everything else.
    """
    height, width = ready.images.shape[2:]
    if ready.sizes.fixed is None and ready.graph:
        step = ready.sizes.multiple if ready.sizes.multiple > 1 else max(height // 2 - 1, 1)
        height, width = height + 2 * step, width + step
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, ready.images.shape[1], height, width, generator=generator)


def _usual_images(ready: Prepared) -> Tensor:
    """Images of the size that the model is built for, if it has one."""
    size = usual_size(ready.original) or ready.images.shape[2:]
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, ready.images.shape[1], *size, generator=generator)


def _in_torch(ready: Prepared, precision: Precision, threads: int | None, notes: list[str]) -> Run:
    """Inductor's code; if it cannot compile, the folded modules in eager mode, with the reason added to ``notes``."""
    core = eager.prepared(copy.deepcopy(ready.core), precision)
    run = eager.runner(eager.compiled(core), precision, threads)
    try:
        run(ready.images.to(_device_of(core)))
    except Exception as error:  # compilers raise many kinds of exceptions
        notes.append(f"torch.compile failed ({_first_line(error)}); PyTorch runs the folded modules in eager mode")
        return eager.runner(core, precision, threads)
    return run


def _expect_same(run: Run, original: nn.Module, images: list[Tensor], precision: Precision) -> None:
    """Raise ``InputError`` if an engine's outputs differ from the original's by more than the precision allows."""
    found = largest_difference(run, core_of(original), images)
    if found > BOUNDS[precision]:
        raise InputError(
            f"its outputs differ from the original's by {found:.1e} of their largest value, and {precision} allows "
            f"{BOUNDS[precision]:.0e}"
        )


def largest_difference(run: Run, original: nn.Module, batches: Iterable[Tensor]) -> float:
    """The largest difference between an engine's outputs and the original core's, over all images (B, C, H, W).

    Relative to the largest value of the original; of several outputs the one that differs most.
    """
    differences: dict[int, float] = {}
    magnitudes: dict[int, float] = {}
    for images in batches:
        for i, (mine, theirs) in enumerate(zip(run(images), outputs(original, images), strict=True)):
            differences[i] = max(differences.get(i, 0.0), difference(mine, theirs))
            magnitudes[i] = max(magnitudes.get(i, 0.0), magnitude(theirs))
    return max((differences[i] / max(magnitudes[i], 1e-12) for i in differences), default=0.0)


def _unchanged(model: AnyModel, threads: int | None) -> CompiledModel:
    """The original in PyTorch, in eager mode."""
    original = copy.deepcopy(model).eval().requires_grad_(False)
    run, about = eager.runner(core_of(original), "fp32", threads), description_of(original)
    call = whole(run, about.spec, Sizes(), original)
    return CompiledModel(run, call, backend="torch", precision="fp32", about=about, sizes=Sizes())


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters(), torch.empty(0)).device


def _on_cpu(model: AnyModel) -> AnyModel:
    """The model on the CPU, where calibration images are prepared: a detector resizes on its own device."""
    return model if _device_of(model).type == "cpu" else copy.deepcopy(model).cpu()


def _first_line(error: Exception) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return line if isinstance(error, InputError) else f"{type(error).__name__}: {line}"
