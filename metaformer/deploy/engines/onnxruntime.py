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
"""The first with GELU as one operation; taken apart it costs five passes where a fusion misses it."""


def library() -> ModuleType:
    """The package ``onnxruntime``.

    Raises:
        MissingExtraError: it, or what writes ONNX, is not installed.
    """
    try:
        import onnx  # noqa: F401 - torch.onnx needs this and the next, and says so late
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtraError(EXTRA) from None
    return onnxruntime


def form(precision: str) -> Literal["maps", "tokens"]:
    """Maps, but tokens for int8: its convolutions take rounded numbers only if they also answer in them."""
    return "tokens" if precision == "int8" else "maps"


def converted(program: ExportedProgram) -> Any:
    """A program as an ``onnx.ModelProto``; its input is ``images``.

    Raises:
        InputError: an operation that ONNX does not have; the message names it.
    """
    library()
    try:
        with _quiet():
            found = torch.onnx.export(
                program, dynamo=True, verbose=False, opset_version=OPSET, input_names=["images"], external_data=False
            )
    except Exception as error:  # its errors have no common class
        raise InputError(f"torch.onnx cannot convert the model: {_reason(error)}") from error
    assert found is not None
    return found.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells every step."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _reason(error: Exception) -> str:
    """The line that names an operation, or the last of its causes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "torch.ops." in line or "<class" in line]
    return named[-1] if named else (lines[0] if lines else type(error).__name__)


def write(model: Any, folder: Path) -> None:
    """``model.onnx`` in a folder."""
    (folder / FILES[0]).write_bytes(model.SerializeToString())


def read(folder: Path) -> Any:
    """What ``write`` wrote, an ``onnx.ModelProto``; raises ``InputError`` where it cannot be read."""
    library()
    import onnx

    try:
        return onnx.load(folder / FILES[0])
    except Exception as error:  # protobuf's errors are not public
        raise InputError(f"{folder / FILES[0]}: not a readable ONNX file: {error}") from None


def runner(model: Any, precision: str, threads: int | None = None) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """A function from images (B, C, H, W) float32 to the graph's answers, each a float32 tensor."""
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
            # behind an int8 product it takes twice the time of its parts
            disabled_optimizers=["BiasGeluFusion"] if precision == "int8" else None,
        )
    except Exception as error:  # its errors have no common class
        raise InputError(f"ONNX Runtime cannot compile the model: {str(error).splitlines()[0]}") from error
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> tuple[Tensor, ...]:
        found = session.run(None, {name: images.contiguous().numpy()})
        return tuple(torch.from_numpy(answer).float() for answer in found)

    return run
