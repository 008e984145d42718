"""Trains the fourth task; as a script, in a process of its own that kills itself once the sixth state is saved.

python brightness_child.py DATA OUT
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from rich.console import Console

from metaformer.recipe import DataConfig, Machine, OptimizerConfig, Recipe
from metaformer.run.train import RunResult, train
from metaformer.spec.model import EmbeddingSpec, MLPSpec, ModelSpec, StageSpec
from metaformer.tasks import task as tasks
from metaformer.training.checkpoint import Checkpoints

LINE = {"brightness": "brightness.task:Brightness"}
"""The one line that the task takes outside its folder."""
STAGES = (
    StageSpec(depth=1, width=8, embedding=EmbeddingSpec(stride=2), mlp=MLPSpec(ratio=2.0)),
    StageSpec(depth=1, width=12, mlp=MLPSpec(ratio=2.0)),
)
TINY = ModelSpec(stages=STAGES, num_classes=1, img_size=(16, 16))


def bright(data: Path, out: Path, *, resume: bool = False, page: bool = True) -> RunResult | None:
    """A run of 12 updates in 3 epochs."""
    recipe = Recipe(
        task="brightness",
        data=DataConfig(source=str(data)),
        optimizer=OptimizerConfig(epochs=3, batch_size=4, lr=1e-2, ema_decay=0.5),
        machine=Machine(device="cpu", threads=1, save_steps=1),
    )
    return train(recipe, out, resume=resume, spec=TINY, page=page, console=Console(quiet=True))


if __name__ == "__main__":
    torch.set_num_threads(1)
    tasks.TASKS.update(LINE)
    saves, whole = 0, Checkpoints.save

    def save(self: Checkpoints, tree: object) -> Path:
        global saves
        path, saves = whole(self, tree), saves + 1
        if saves == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return path

    Checkpoints.save = save  # type: ignore[method-assign]
    bright(Path(sys.argv[1]), Path(sys.argv[2]), page=False)
