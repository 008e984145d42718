"""The machine of a benchmark: processor and its instructions, versions, commit, and how busy it was."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from ..run.provenance import commit, cpu_name, cpuinfo, versions

PACKAGES = ("torch", "timm", "transformers", "torchvision", "openvino", "nncf", "onnxruntime", "triton")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
"""Instruction sets that decide how fast a precision can be, as /proc/cpuinfo names them."""


def machine() -> dict[str, Any]:
    """Hardware, installed versions and the commit of the checkout."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "instructions": list(instructions()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions(PACKAGES),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def instructions() -> tuple[str, ...]:
    """Those of ``INSTRUCTIONS`` that the processor has; empty where the system does not list them."""
    known = next(iter(cpuinfo("flags")), "").split()
    return tuple(name for name in INSTRUCTIONS if name in known)


def cpu_ticks(file: Path = Path("/proc/stat")) -> tuple[int, int] | None:
    """(steal, all): ticks since boot in which the host ran other machines, and all ticks; None on other systems."""
    if not file.exists():
        return None
    # Columns 9 and 10, guest time, are contained in the first two and would count twice.
    ticks = [int(word) for word in file.read_text().splitlines()[0].split()[1:9]]
    return ticks[7], sum(ticks)


def steal_share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """The share of CPU steal time between two readings of ``cpu_ticks``; None if it cannot be known."""
    if before is None or after is None or after[1] == before[1]:
        return None
    return round((after[0] - before[0]) / (after[1] - before[1]), 3)
