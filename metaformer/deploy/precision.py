"""Precisions: which one an engine can use on a machine, and how far it may change the outputs of a model.

In: a requested precision, an engine, a device. Out: the precision that is used, and the reason if it is another one.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError, did_you_mean

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

BOUNDS = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.5}
"""The largest difference that a precision allows, relative to the largest value of the original's output.

Another order of sums changes float32 by about 1e-6. bf16 keeps 8 bits of every number, 0.4 % of it, and the error grows
with the depth; int8 has 256 steps for the whole range of a map. Wrong arithmetic gives differences near 1 or above.
"""


def known_precision(name: str) -> Precision:
    """The precision of this name; raises ``InputError`` if there is none."""
    if name not in PRECISIONS:
        raise InputError(f"precision: unknown {name!r}. {did_you_mean(str(name), PRECISIONS)}")
    return name


def available(precision: str, backend: str, device: torch.device | str = "cpu") -> tuple[Precision, str | None]:
    """The precision that will be used, and the reason if it is not the requested one.

    Args:
        precision: ``fp32``, ``bf16`` or ``int8``.
        backend: ``openvino``, ``onnxruntime`` or ``torch``.
        device: of the model; the first two engines always compute on the CPU.

    Raises:
        InputError: no such precision.
    """
    known = known_precision(precision)
    reason = None if known == "fp32" else _missing(known, backend, torch.device(device).type)
    if reason is None:
        return known, None
    return "fp32", f"{known} was requested and fp32 is used: {reason}"


def _missing(precision: str, backend: str, device: str) -> str | None:
    """Why a precision is not available; None if it is."""
    if precision == "int8":
        return "PyTorch has no int8 here; use openvino or onnxruntime" if backend == "torch" else None
    if backend == "onnxruntime":
        return "ONNX Runtime has no bf16 on CPUs; use openvino or torch"
    if backend == "openvino":
        from .engines.openvino import capabilities

        return None if "BF16" in capabilities() else "this CPU has no bf16 instructions"
    if device == "cuda":
        return None if torch.cuda.is_bf16_supported() else "this GPU has no bf16 instructions"
    return None if cpu_has_bf16() else "this CPU has no bf16 instructions"


def cpu_has_bf16() -> bool:
    """Whether the CPU has bf16 instructions. Without them PyTorch emulates bf16, which is slower than float32."""
    return any(bool(there) for name, there in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def difference(mine: Tensor, original: Tensor) -> float:
    """The largest difference of two outputs; infinite for different shapes and if a value is NaN."""
    if mine.shape != original.shape:
        return float("inf")
    if original.numel() == 0:
        return 0.0
    largest = (mine.detach().double().cpu() - original.detach().double().cpu()).abs().max()
    return float("inf") if largest.isnan() else float(largest)


def magnitude(output: Tensor) -> float:
    """The largest absolute value of an output."""
    return float(output.detach().abs().max()) if output.numel() else 0.0
