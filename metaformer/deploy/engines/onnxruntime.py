"""ONNX and ONNX Runtime: programs to ONNX models, models to files and back, and a function that runs one on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ...errors import InputError, MissingExtraError

EXTRA = "ONNX Runtime is not installed: pip install 'metaformer[export]'"
FILES = ("model.onnx",)
OPSET = 20
"""The first opset with GELU as one operation. As several it costs five passes where no fusion finds it."""


def library() -> ModuleType:
    """The package ``onnxruntime``.

    Raises:
        MissingExtraError: it, onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401 - torch.onnx needs onnx and onnxscript, and fails late without them
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtraError(EXTRA) from None
    return onnxruntime


def form(precision: str) -> Literal["maps", "tokens"]:
    """Maps, but tokens for int8: its convolutions compute in integers only if their output is quantized too."""
    return "tokens" if precision == "int8" else "maps"


def converted(program: ExportedProgram) -> Any:
    """A program as an ``onnx.ModelProto`` with the input ``images``.

    Raises:
        InputError: an operation that ONNX lacks; the message names it.
    """
    library()
    try:
        with _quiet():
            found = torch.onnx.export(
                program, dynamo=True, verbose=False, opset_version=OPSET, input_names=["images"], external_data=False
            )
    except Exception as error:  # torch.onnx has no common exception class
        raise InputError(f"torch.onnx cannot convert the model: {_reason(error)}") from error
    assert found is not None
    return found.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's log of every step."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _reason(error: Exception) -> str:
    """The last line of an error that names an operation, or its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "torch.ops." in line or "<class" in line]
    return named[-1] if named else (lines[0] if lines else type(error).__name__)


def write(model: Any, folder: Path) -> None:
    """Write ``model.onnx`` into a folder."""
    (folder / FILES[0]).write_bytes(model.SerializeToString())


def read(folder: Path) -> Any:
    """The ``onnx.ModelProto`` that ``write`` wrote; raises ``InputError`` if it cannot be read."""
    library()
    import onnx

    try:
        return onnx.load(folder / FILES[0])
    except Exception as error:  # protobuf's exceptions are not public
        raise InputError(f"{folder / FILES[0]}: not a readable ONNX file: {error}") from None


def runner(model: Any, precision: str, threads: int | None = None) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """A function from images (B, C, H, W) float32 to the graph's outputs, each a float32 tensor."""
    ort = library()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            # after an int8 product the fused operation takes twice as long as its parts
            disabled_optimizers=["BiasGeluFusion"] if precision == "int8" else None,
        )
    except Exception as error:  # ONNX Runtime has no common exception class
        raise InputError(f"ONNX Runtime cannot compile the model: {str(error).splitlines()[0]}") from error
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> tuple[Tensor, ...]:
        found = session.run(None, {name: images.contiguous().numpy()})
        return tuple(torch.from_numpy(output).float() for output in found)

    return run
