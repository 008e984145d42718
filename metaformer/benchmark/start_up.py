"""Start-up: what a person waits before anything happens, in fresh processes that take turns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..model.build import Model
from ..weights.save import save_weights
from .contenders import Row
from .inference import take_down
from .rounds import Call, Pace, Spread, in_turns, ratio
from .setting import Tell

BASELINE = "import torch"


def start_up(model: Model, folder: Path, threads: int, pace: Pace, tell: Tell) -> Iterator[list[Row]]:
    """The rows after each finished round; ``folder`` gets the model's weights and an image."""
    weights, image = folder / "model.safetensors", folder / "image.jpg"
    save_weights(model, weights)
    noise = np.random.default_rng(0).integers(0, 256, (*model.preprocessing.size, 3), np.uint8)
    Image.fromarray(noise).save(image)
    commands = {
        "python": ["-c", "pass"],
        BASELINE: ["-c", "import torch"],
        "import metaformer": ["-c", "import metaformer"],
        "metaformer --help": ["-m", "metaformer", "--help"],
        "first image of predict": ["-m", "metaformer", "predict", str(image), "--weights", str(weights)],
    }
    rows = [Row(name=name, library="", engine="process", precision="fp32", layout="") for name in commands]
    calls = {name: process(command, threads) for name, command in commands.items()}
    quick = Pace(rounds=pace.rounds, warm_up=1, least=0.0, pause=pace.pause)
    for turns in in_turns(calls, quick, tell=tell):
        take_down(rows, turns)
        yield rows


def process(arguments: list[str], threads: int) -> Call:
    """A fresh Python with these arguments, run to its end; it raises what the process said where it failed."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"}

    def call() -> None:
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}: {done.stderr[-200:]}")

    return call


def as_dicts(rows: list[Row]) -> list[dict[str, Any]]:
    """For JSON: medians, and how many times the time of ``import torch``."""
    against = next(row.times for row in rows if row.name == BASELINE)
    told = []
    for row in rows:
        one: dict[str, Any] = {"name": row.name, "state": row.state, "note": row.note, "times": row.times}
        if row.is_timed:
            one["seconds"] = round(Spread.of(row.times).median, 4)
        if row.is_timed and against:
            one["of_import_torch"] = round(ratio(row.times, against).median, 4)
        told.append(one)
    return told
