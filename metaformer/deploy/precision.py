"""Which arithmetic a machine can do, which one a model will really run in, and how far its answers may then move.

In: what was asked for, an engine, a device. Out: the precision used, and a sentence where it is another one.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError, did_you_mean

Name = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Name)

BOUNDS = {"fp32": 1e-4, "bf16": 0.1, "int8": 0.5}
"""The largest difference that a precision explains, as a share of the largest value of the original's answer.

Sums in another order move float32 by about 1e-6; bf16 keeps 8 bits of every number, 0.4 % of it, which grows with the
depth; int8 has 256 steps for the whole range of a map. Wrong arithmetic gives differences near 1 or beyond.
"""


def known_precision(name: str) -> str:
    """The name itself; raises ``InputError`` for any other."""
    if name not in PRECISIONS:
        raise InputError(f"precision: unknown {name!r}. {did_you_mean(str(name), PRECISIONS)}")
    return name


def available(precision: str, backend: str, device: torch.device | str = "cpu") -> tuple[str, str | None]:
    """The precision that is really used, and why it is not the one asked for.

    Args:
        precision: ``fp32``, ``bf16`` or ``int8``.
        backend: ``openvino``, ``onnxruntime`` or ``torch``.
        device: where the model stands; the first two engines always compute on the CPU.

    Raises:
        InputError: no such precision.
    """
    reason = None if known_precision(precision) == "fp32" else _missing(precision, backend, torch.device(device).type)
    if reason is None:
        return precision, None
    return "fp32", f"{precision} was asked for and fp32 is used: {reason}"


def _missing(precision: str, backend: str, device: str) -> str | None:
    """Why a precision cannot be had, or None."""
    if precision == "int8":
        return "PyTorch has no int8 here; take openvino or onnxruntime" if backend == "torch" else None
    if backend == "onnxruntime":
        return "ONNX Runtime computes nothing in bf16 on CPUs; take openvino or torch"
    if backend == "openvino":
        from .engines.openvino import abilities

        return None if "BF16" in abilities() else "this CPU has no bf16 instructions"
    if device == "cuda":
        return None if torch.cuda.is_bf16_supported() else "this GPU has no bf16 instructions"
    return None if cpu_has_bf16() else "this CPU has no bf16 instructions"


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 itself; PyTorch imitates it where not, which is slower than float32."""
    return any(bool(there) for name, there in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def difference(mine: Tensor, original: Tensor) -> float:
    """The largest difference of two answers; infinite for other shapes and where one is no number."""
    if mine.shape != original.shape:
        return float("inf")
    if original.numel() == 0:
        return 0.0
    apart = (mine.detach().double().cpu() - original.detach().double().cpu()).abs().max()
    return float("inf") if apart.isnan() else float(apart)


def magnitude(answer: Tensor) -> float:
    """The largest value of an answer, without its sign."""
    return float(answer.detach().abs().max()) if answer.numel() else 0.0
