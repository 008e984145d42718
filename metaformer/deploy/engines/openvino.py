"""Intel's OpenVINO: programs to its graphs, graphs to files and back, and a function that runs one on the CPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ...errors import InputError, MissingExtraError

EXTRA = "OpenVINO is not installed: pip install 'metaformer[openvino]'"
FILES = ("model.xml", "model.bin")

Sides = tuple[int, ...]
"""Height and width in pixels."""


def library() -> ModuleType:
    """The package ``openvino``, which sends nothing to anybody.

    Raises:
        MissingExtraError: it is not installed.
    """
    without_telemetry()
    try:
        import openvino
    except ImportError:
        raise MissingExtraError(EXTRA) from None
    return openvino


def without_telemetry() -> None:
    """OpenVINO and NNCF report their use to Google as soon as they are imported, unless this package is missing.

    To be called before either is imported; where somebody has imported them before us, their consent is taken back.
    """
    loaded = sys.modules.get("openvino_telemetry")
    if loaded is None:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    elif "openvino" in sys.modules or "nncf" in sys.modules:
        loaded.Telemetry().consent = False


def form(precision: str) -> Literal["maps", "tokens"]:
    """Maps: it sees a transposition wherever tokens become one, and joins 1 × 1 convolutions with what follows."""
    return "maps"


def converted(program: ExportedProgram) -> Any:
    """A program as OpenVINO's graph, an ``openvino.Model``.

    Raises:
        InputError: an operation that it does not know; the message names it.
    """
    ov = library()
    try:
        graph = ov.convert_model(program)
    except Exception as error:  # its errors have no common class
        raise InputError(f"OpenVINO cannot convert the model: {_reason(error)}") from error
    _read_squares_once(graph)
    return graph


def _read_squares_once(graph: Any) -> None:
    """Sums of squares as ``ReduceL2``, which reads a map and writes nothing; as converted, the squares are a copy."""
    from openvino import opset15 as ops

    for node in graph.get_ordered_ops():
        squares = node.input_value(0).get_node() if node.get_type_name() == "ReduceSum" else None
        if squares is None or squares.get_type_name() != "Power" or not _is_two(squares.input_value(1).get_node()):
            continue
        length = ops.reduce_l2(squares.input_value(0), node.input_value(1), keep_dims=node.get_keep_dims())
        node.output(0).replace(ops.multiply(length, length).output(0))


def _is_two(node: Any) -> bool:
    return node.get_type_name() == "Constant" and bool((node.data == 2).all())


def _reason(error: Exception) -> str:
    """The lines that name operations, or the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line.removeprefix("-- ") for line in lines if "operations:" in line]
    return "; ".join(named) or (lines[-1] if lines else type(error).__name__)


def write(model: Any, folder: Path) -> None:
    """``model.xml`` and ``model.bin`` in a folder, with the weights as they are.

    Trap: left alone, ``save_model`` rounds them to half precision.
    """
    library().save_model(model, folder / FILES[0], compress_to_fp16=False)


def read(folder: Path) -> Any:
    """What ``write`` wrote; raises ``InputError`` where it cannot be read."""
    try:
        return library().Core().read_model(folder / FILES[0])
    except RuntimeError as error:
        raise InputError(f"{folder / FILES[0]}: OpenVINO cannot read it: {_reason(error)}") from None


def runner(model: Any, precision: str, threads: int | None = None) -> Runner:
    """A function from images (B, C, H, W) float32 to the graph's answers, each a float32 tensor.

    Raises:
        InputError: OpenVINO cannot compile the graph.
    """
    return Runner(model, precision, threads)


def floats(precision: str) -> Literal["f32", "bf16"]:
    """What a graph's floats are computed in, set on purpose: left alone OpenVINO takes bf16 wherever the CPU has it.

    Between the integers of an int8 graph bf16 is precise enough, and taken where the CPU has it.
    """
    bf16 = precision == "bf16" or (precision == "int8" and "BF16" in abilities())
    return "bf16" if bf16 else "f32"


def abilities() -> tuple[str, ...]:
    """What OpenVINO says of the CPU, such as ``("FP32", "BF16", "INT8")``."""
    return tuple(library().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


class Runner:
    """A graph, compiled as the images that come want it.

    A graph for any size runs slower than one for a single size, since fewer of its operations can be joined: a size
    that comes a second time gets a graph of its own, ``OWN`` sizes at most. Such a graph is for one image or two, and
    a batch is handed out to streams, one for each thread: each keeps its images' maps in its own cache and waits for
    nobody. Two share the weights of the last stages, which are larger than their maps.
    """

    OWN = 4
    PAIR = 2

    def __init__(self, model: Any, precision: str, threads: int | None = None) -> None:
        self._model, self._precision, self._threads = model, precision, threads
        self._lock = Lock()
        batch, _, *sides = model.inputs[0].get_partial_shape()
        self._batch = None if batch.is_dynamic else batch.get_length()
        self._seen: set[Sides] = set()
        fixed = all(side.is_static for side in sides)
        self._own: set[Sides] = {tuple(side.get_length() for side in sides)} if fixed else set()
        self._whole = self._compiled(model, 1)
        self._streams: dict[tuple[Sides, int, int], Any] = {}

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) to tensors of B rows each."""
        if not len(images):  # its pooling refuses that
            return tuple(answer[:0] for answer in self(images.new_zeros(1, *images.shape[1:])))
        with self._lock:
            each = self._each(len(images))
            if len(images) == self._batch or len(images) % each or not self._has_own(tuple(images.shape[2:])):
                return _answers(self._whole, images)
            return self._handed_out(images, each)

    def __deepcopy__(self, memo: Any) -> Runner:
        """A compiled graph cannot be copied; copies of what holds it share it."""
        return self

    def _each(self, count: int) -> int:
        """Images in a request: what the graph is for, or two where they come out even and every thread has some."""
        if self._batch is not None:
            return self._batch
        return self.PAIR if count % self.PAIR == 0 and count >= self.PAIR * self._most() else 1

    def _most(self) -> int:
        """Streams at the most."""
        return self._threads or os.cpu_count() or 1

    def _has_own(self, sides: Sides) -> bool:
        """Whether a size has, or gets now, a graph of its own."""
        if sides in self._seen and len(self._own) < self.OWN:
            self._own.add(sides)
        self._seen.add(sides)
        return sides in self._own

    def _handed_out(self, images: Tensor, each: int) -> tuple[Tensor, ...]:
        requests = len(images) // each
        streams = 1 << (min(requests, self._most()).bit_length() - 1)  # 1, 2, 4, …: few graphs for many sizes of batch
        key = tuple(images.shape[2:]), streams, each
        if key not in self._streams:
            self._streams[key] = self._queue(images[:each], streams)
        rows: list[tuple[Tensor, ...]] = [()] * requests
        queue = self._streams[key]
        queue.set_callback(lambda request, i: rows.__setitem__(i, _copies(request.results.values())))
        pixels = images.contiguous().numpy()
        for i in range(requests):
            queue.start_async([pixels[i * each : (i + 1) * each]], i)
        queue.wait_all()
        return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))

    def _queue(self, images: Tensor, streams: int) -> Any:
        """So many requests at a time to a graph for images of this shape."""
        graph = self._model.clone()
        graph.reshape(list(images.shape))
        return library().AsyncInferQueue(self._compiled(graph, streams), streams)

    def _compiled(self, graph: Any, streams: int) -> Any:
        properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": floats(self._precision), "NUM_STREAMS": streams}
        if self._threads is not None:
            properties["INFERENCE_NUM_THREADS"] = self._threads
        try:
            return library().Core().compile_model(graph, "CPU", properties)
        except RuntimeError as error:
            raise InputError(f"OpenVINO cannot compile the model: {_reason(error)}") from error


def _answers(compiled: Any, images: Tensor) -> tuple[Tensor, ...]:
    return _copies(compiled([images.contiguous().numpy()]).values())


def _copies(found: Iterable[Any]) -> tuple[Tensor, ...]:
    """Copies, since a request writes its next answers into the same memory."""
    return tuple(torch.from_numpy(one.copy()).float() for one in found)
