"""What ``config.json`` says of a run: everything that is known before the first update.

In: a model, the data and a recipe. Out: plain data, ready for JSON.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..data.sets import ImageSplits
from ..model.build import Model
from ..model.complexity import count_macs, count_parameters
from ..recipe import Recipe
from ..training.device import chosen_device
from ..version import __version__
from ..weights.description import describe
from ..weights.safetensors_io import replace_file
from .folder import CONFIG


def described(recipe: Recipe, model: Model, sets: ImageSplits, command: str) -> dict[str, Any]:
    """The content of config.json."""
    return {
        "recipe": recipe.to_dict(),
        "name": model.name,
        "spec": describe(model).spec.to_dict(),
        "preprocessing": model.preprocessing.to_dict(),
        "classes": list(sets.classes),
        "version": __version__,
        "commit": commit(),
        "command": command,
        "data": {
            "source": recipe.data.source,
            "train": len(sets.train),
            "val": len(sets.val),
            "skipped": [{"path": bad.path, "reason": bad.reason} for bad in sets.skipped],
        },
        "parameters": count_parameters(model),
        "macs": count_macs(model),
        "machine": machine(recipe),
    }


@cache
def commit() -> str | None:
    """The commit of the checkout this library runs from, with a ``+`` where files differ from it; None elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    asked = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def machine(recipe: Recipe) -> dict[str, Any]:
    """What it runs on."""
    device = chosen_device(recipe.machine)
    return {
        "cpu": cpu_name(),
        "threads": recipe.machine.threads or torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
    }


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    """Write config.json, all or nothing."""
    path = folder / CONFIG
    replace_file(path, (json.dumps(config, indent=2) + "\n").encode())
    return path
