"""Where a model computes."""

from __future__ import annotations

import torch

from ..errors import RunError
from ..recipe import Machine


def resolve_device(machine: Machine) -> str:
    """``cpu``, ``cuda`` or ``mps``: what ``auto`` means here; ``RunError`` when the device is not available."""
    # the order is the preference of ``auto``
    exists = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [name for name, is_there in exists.items() if is_there]
    if machine.device == "auto":
        return available[0]
    if machine.device not in available:
        raise RunError(f"device: expected a device of this machine ({', '.join(available)}), got {machine.device!r}")
    return machine.device
