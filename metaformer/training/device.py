"""Where a run computes: the device, Accelerate for the recipe's machine, and the process's rank among all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from ..errors import RunError
from ..model.device import resolve_device
from ..recipe import Machine

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def processes() -> tuple[int, int]:
    """(rank, world size) of this process, as ``torchrun`` sets them in the environment; (0, 1) when run alone."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def process_device(machine: Machine) -> torch.device:
    """The device of this process; ``torchrun`` gives each process a GPU of its own.

    It is read from the environment, because loaders are made before Accelerate starts.
    """
    name = resolve_device(machine)
    return torch.device(name, int(os.environ.get("LOCAL_RANK", 0))) if name == "cuda" else torch.device(name)


def start_accelerator(machine: Machine) -> Accelerator:
    """A new ``Accelerator`` for ``machine``; raises ``RunError`` for fp16 on a CPU."""
    device = resolve_device(machine)
    if machine.precision == "fp16" and device == "cpu":
        raise RunError("machine.precision: expected 'fp32' or 'bf16' on the CPU, got 'fp16'")
    # Accelerate keeps one state for each process and would refuse a second run of another precision
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=_PRECISIONS[machine.precision], cpu=device == "cpu")


@contextmanager
def flush_denormals(device: torch.device) -> Iterator[None]:
    """In a run on one CPU thread, treat numbers below 1e-38 as 0; restores the earlier setting.

    CPUs compute much more slowly with such numbers, and these are too small to change a weight. Moments and gradients
    may come near them: LayerScale starts at 1e-5, and Adam squares gradients.
    """
    was_on = bool(torch.full((1,), 1e-38).mul(0.01) == 0)  # PyTorch has no function that returns the setting
    # one thread only: the setting does not reach threads that are alive already, and a result must not depend on what
    # the process did before
    is_set = device.type == "cpu" and torch.get_num_threads() == 1 and not was_on and torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if is_set:
            torch.set_flush_denormal(False)


def unwrap(module: nn.Module) -> nn.Module:
    """``module`` without the attributes that Accelerate's ``prepare`` set on it."""
    # prepare puts autocast around forward as an attribute of the instance: it would outlive the run, and a deep copy
    # (the EMA) would call the original's forward with the original's weights
    if vars(module).pop("_original_forward", None) is not None:
        del module.forward
    vars(module).pop("_is_accelerate_prepared", None)  # with it, the next run's prepare would skip the model
    return module
