"""Start-up: how long a user waits until the first result, in fresh processes that take turns."""

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
from .inference import add_round
from .rounds import Call, Pace, Spread, in_turns, ratio
from .setting import OnStep

BASELINE = "import torch"


def start_up(model: Model, folder: Path, threads: int, pace: Pace, on_step: OnStep) -> Iterator[list[Row]]:
    """The rows after each finished round. Writes the model's weights and an image into ``folder``."""
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
    single = Pace(rounds=pace.rounds, warm_up=1, min_seconds=0.0, pause=pace.pause)  # a process is never repeated
    for turns in in_turns(calls, single, on_turn=on_step):
        add_round(rows, turns)
        yield rows


def process(arguments: list[str], threads: int) -> Call:
    """A call that runs a fresh Python with these arguments; raises with the end of its stderr if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"}

    def call() -> None:
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}: {done.stderr[-200:]}")

    return call


def as_dicts(rows: list[Row]) -> list[dict[str, Any]]:
    """For JSON: medians in seconds and as multiples of ``import torch``."""
    baseline = next(row.times for row in rows if row.name == BASELINE)
    found = []
    for row in rows:
        one: dict[str, Any] = {"name": row.name, "state": row.state, "note": row.note, "times": row.times}
        if row.is_timed:
            one["seconds"] = round(Spread.of(row.times).median, 4)
        if row.is_timed and baseline:
            one["of_import_torch"] = round(ratio(row.times, baseline).median, 4)
        found.append(one)
    return found
