"""Where a model computes."""

from __future__ import annotations

import torch

from ..errors import RunError
from ..recipe import Machine


def chosen_device(machine: Machine) -> str:
    """``cpu``, ``cuda`` or ``mps``: what ``auto`` means here; ``RunError`` when the named device is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if machine.device == "auto":
        return next(name for name, found in there.items() if found)
    if not there[machine.device]:
        found = ", ".join(name for name, yes in there.items() if yes)
        raise RunError(f"device: expected a device of this machine ({found}), got {machine.device!r}")
    return machine.device
