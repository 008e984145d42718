"""What something was measured on: processor, instructions, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

VERSIONS = ("torch", "timm", "transformers", "torchvision", "openvino", "nncf", "onnxruntime", "triton")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
"""What decides how fast a precision can be, in the words of /proc/cpuinfo."""


def machine() -> dict[str, Any]:
    """Hardware, versions of everything that is installed, and the commit of the checkout."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "instructions": list(instructions()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: found for name in VERSIONS if (found := _version(name))},
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """The name that the system gives its processor."""
    return next(iter(_cpuinfo("model name")), platform.processor())


def instructions() -> tuple[str, ...]:
    """Those of ``INSTRUCTIONS`` that the processor has, as far as the system tells."""
    known = next(iter(_cpuinfo("flags")), "").split()
    return tuple(name for name in INSTRUCTIONS if name in known)


def commit() -> str:
    """The short hash of the checkout that this file lies in, marked where files differ from it; None elsewhere."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
    )  # fmt: skip
    return done.stdout.strip()


def processor_time(file: Path = Path("/proc/stat")) -> tuple[int, int] | None:
    """Ticks since the start that the host took for others, and all ticks; None where the system does not tell."""
    if not file.exists():
        return None
    ticks = [int(word) for word in file.read_text().splitlines()[0].split()[1:9]]  # guests' are in the first two
    return ticks[7], sum(ticks)


def stolen_share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """Which share of the processor's time between two moments the host of a virtual machine took for others."""
    if before is None or after is None or after[1] == before[1]:
        return None
    return round((after[0] - before[0]) / (after[1] - before[1]), 3)


def _cpuinfo(key: str) -> list[str]:
    """What Linux says of each core."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return [line.split(":", 1)[1].strip() for line in lines if line.partition("\t")[0].rstrip() == key]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
