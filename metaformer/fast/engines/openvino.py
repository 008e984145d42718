"""Intel's OpenVINO: programs to its graphs, graphs to files and back, and a function that runs one on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ...errors import InputError, MissingExtraError

EXTRA = "OpenVINO is not installed: pip install 'metaformer[openvino]'"
FILES = ("model.xml", "model.bin")


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


def runner(model: Any, precision: str, threads: int | None = None) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """A function from pictures (B, C, H, W) float32 to the graph's answers, each a float32 tensor.

    The precision is set on purpose: left alone OpenVINO takes bf16 wherever the CPU has it.
    """
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    if threads is not None:
        properties["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = library().Core().compile_model(model, "CPU", properties)
    except RuntimeError as error:
        raise InputError(f"OpenVINO cannot compile the model: {_reason(error)}") from error
    request = compiled.create_infer_request()

    def run(images: Tensor) -> tuple[Tensor, ...]:
        found = request.infer([images.contiguous().numpy()])
        # copies: the request writes its next answers into the same memory
        return tuple(torch.from_numpy(found[output].copy()).float() for output in compiled.outputs)

    return run
