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
    """The package ``openvino``, with telemetry off.

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
    """Turn off the telemetry of OpenVINO and NNCF, which report their use to Google when they are imported.

    Call it before importing either: they stay silent if ``openvino_telemetry`` cannot be imported. If they are loaded
    already, consent is withdrawn instead.
    """
    loaded = sys.modules.get("openvino_telemetry")
    if loaded is None:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    elif "openvino" in sys.modules or "nncf" in sys.modules:
        loaded.Telemetry().consent = False


def form(precision: str) -> Literal["maps", "tokens"]:
    """Maps: tokens cost a transposition at every convolution, and 1 × 1 convolutions are joined with what follows."""
    return "maps"


def converted(program: ExportedProgram) -> Any:
    """A program as OpenVINO's graph, an ``openvino.Model``.

    Raises:
        InputError: an operation that OpenVINO lacks; the message names it.
    """
    ov = library()
    try:
        graph = ov.convert_model(program)
    except Exception as error:  # OpenVINO has no common exception class
        raise InputError(f"OpenVINO cannot convert the model: {_reason(error)}") from error
    _join_squares(graph)
    return graph


def _join_squares(graph: Any) -> None:
    """Replace sums of squares by ``ReduceL2``, which does not write the squares into memory."""
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
    """The lines of an error that name operations, or its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line.removeprefix("-- ") for line in lines if "operations:" in line]
    return "; ".join(named) or (lines[-1] if lines else type(error).__name__)


def write(model: Any, folder: Path) -> None:
    """Write ``model.xml`` and ``model.bin`` into a folder."""
    # By default ``save_model`` would round the weights to half precision.
    library().save_model(model, folder / FILES[0], compress_to_fp16=False)


def read(folder: Path) -> Any:
    """The graph that ``write`` wrote; raises ``InputError`` if it cannot be read."""
    try:
        return library().Core().read_model(folder / FILES[0])
    except RuntimeError as error:
        raise InputError(f"{folder / FILES[0]}: OpenVINO cannot read it: {_reason(error)}") from None


def runner(model: Any, precision: str, threads: int | None = None) -> Runner:
    """A function from images (B, C, H, W) float32 to the graph's outputs, each a float32 tensor.

    Raises:
        InputError: OpenVINO cannot compile the graph.
    """
    return Runner(model, precision, threads)


def floats(precision: str) -> Literal["f32", "bf16"]:
    """The type of floats in a graph. Always set: by default OpenVINO computes in bf16 on every CPU that has it.

    Between the integers of an int8 graph bf16 is precise enough, and used if the CPU has it.
    """
    bf16 = precision == "bf16" or (precision == "int8" and "BF16" in capabilities())
    return "bf16" if bf16 else "f32"


def capabilities() -> tuple[str, ...]:
    """The CPU's precisions as OpenVINO reports them, such as ``("FP32", "BF16", "INT8")``."""
    return tuple(library().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


class Runner:
    """A graph that is compiled again for image sizes that repeat.

    A graph for any size is slower than one for a single size, because fewer of its operations can be joined. So a size
    that comes a second time gets a graph of its own, for at most ``OWN`` sizes. Such a graph takes one image or a pair,
    and a batch is distributed over streams, one per thread: each stream keeps the maps of its images in its own cache
    and waits for no other. Pairs share the weights of the last stages, which are larger than the maps there.
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
        if not len(images):  # OpenVINO's pooling refuses empty batches
            return tuple(output[:0] for output in self(images.new_zeros(1, *images.shape[1:])))
        with self._lock:
            each = self._each(len(images))
            if len(images) == self._batch or len(images) % each or not self._has_graph(tuple(images.shape[2:])):
                return _outputs(self._whole, images)
            return self._in_streams(images, each)

    def __deepcopy__(self, memo: Any) -> Runner:
        """A compiled graph cannot be copied; copies of its owner share it."""
        return self

    def _each(self, count: int) -> int:
        """Images per request: the graph's own number, or pairs if the batch is even and fills all threads."""
        if self._batch is not None:
            return self._batch
        return self.PAIR if count % self.PAIR == 0 and count >= self.PAIR * self._max_streams() else 1

    def _max_streams(self) -> int:
        """The largest number of streams."""
        return self._threads or os.cpu_count() or 1

    def _has_graph(self, sides: Sides) -> bool:
        """Whether a size has a graph of its own, from its second batch on."""
        if sides in self._seen and len(self._own) < self.OWN:
            self._own.add(sides)
        self._seen.add(sides)
        return sides in self._own

    def _in_streams(self, images: Tensor, each: int) -> tuple[Tensor, ...]:
        requests = len(images) // each
        streams = 1 << (
            min(requests, self._max_streams()).bit_length() - 1
        )  # powers of two: few graphs for many batch sizes
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
        """A queue of as many requests as streams, for a graph for images of this shape."""
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


def _outputs(compiled: Any, images: Tensor) -> tuple[Tensor, ...]:
    return _copies(compiled([images.contiguous().numpy()]).values())


def _copies(found: Iterable[Any]) -> tuple[Tensor, ...]:
    """Copies, because a request writes its next outputs into the same memory."""
    return tuple(torch.from_numpy(one.copy()).float() for one in found)
