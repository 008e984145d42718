"""Where a run computes: Accelerate's engine for a recipe's machine, and this process's place among its fellows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from ..errors import RunError
from ..model.device import chosen_device
from ..recipe import Machine

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def processes() -> tuple[int, int]:
    """(rank, world) of this process as ``torchrun`` says it in the environment; (0, 1) when run alone."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def place_of(machine: Machine) -> torch.device:
    """The device this process will compute on, before an engine is there to ask: each has a GPU of its own."""
    name = chosen_device(machine)
    return torch.device(name, int(os.environ.get("LOCAL_RANK", 0))) if name == "cuda" else torch.device(name)


def start_accelerator(machine: Machine) -> Accelerator:
    """A fresh engine for ``machine``. Accelerate keeps one state per process: a run that starts replaces the state
    of the run before it, so that runs of different precision can follow each other."""
    device = chosen_device(machine)
    if machine.precision == "fp16" and device == "cpu":
        raise RunError("machine.precision: expected 'fp32' or 'bf16' on the CPU, got 'fp16'")
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(mixed_precision=_PRECISIONS[machine.precision], cpu=device == "cpu")


@contextmanager
def denormals_flushed(device: torch.device) -> Iterator[None]:
    """In a run on one CPU thread, numbers below 1e-38 count as 0; afterwards as they did before.

    Processors handle such numbers much more slowly than others, and they move no weight. Moments and gradients may come
    near them: LayerScale begins at 1e-5, and Adam squares. Only on one thread, because the switch reaches no thread
    that is alive already, and a result must not depend on what a process did before.
    """
    before = bool(torch.full((1,), 1e-38).mul(0.01) == 0)  # torch tells only by doing it
    flushes = device.type == "cpu" and torch.get_num_threads() == 1 and not before and torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if flushes:
            torch.set_flush_denormal(False)


def plain(module: nn.Module) -> nn.Module:
    """``module`` without what Accelerate's ``prepare`` left on it.

    That is autocast around ``forward``, which would follow the model out of the run and make its copies compute with
    the original's weights, and a mark that keeps it from being prepared a second time.
    """
    if vars(module).pop("_original_forward", None) is not None:
        del module.forward
    vars(module).pop("_is_accelerate_prepared", None)
    return module
