"""Quick runs of detectors and segmenters; as a script, one that can be killed or one of two that share the work.

python dense_run.py waiting SYSTEM DATA FOLDER BATCH  trains, and waits to be killed before batch number BATCH
python dense_run.py evaluated RUN ...                 evaluates each run's best weights and prints the metrics
python dense_run.py trained SYSTEM DATA FOLDER        trains an epoch
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from dense_models import lightened, pyramid_spec
from rich.console import Console

from metaformer.inference.loaded import load_any
from metaformer.model.dense import build, mask_rcnn, neck
from metaformer.recipe import Augmentation, DataConfig, Dense, Machine, OptimizerConfig, Recipe
from metaformer.run.config import RunConfig
from metaformer.run.train import RunResult, train
from metaformer.tasks.detection.objective import DetectionObjective
from metaformer.tasks.task import task_named
from metaformer.training.engine import Engine
from metaformer.training.trainer import BEST

SYSTEMS = ("retinanet", "mask_rcnn", "semantic_fpn")
QUIET = Console(quiet=True)


@contextmanager
def narrow() -> Iterator[None]:
    """Pyramid networks and heads of a few channels, and few regions: the published ones take seconds an update."""
    whole = build.build_dense

    def light(*given: Any) -> Any:
        return lightened(whole(*given))

    with (
        patch.object(neck, "WIDTH", 32),
        patch.object(mask_rcnn, "WIDTH", 32),
        patch.object(mask_rcnn, "HIDDEN", 64),
        patch("metaformer.factory.dense.build_dense", light),
        patch.object(build, "build_dense", light),
    ):
        yield


def recipe_for(system: str, data: Path | str, **moves: Any) -> Recipe:
    """Everything random that these runs have; 16 images are four batches an epoch, each in two parts."""
    usual = {"epochs": 4, "batch_size": 4, "accumulation": 2, "lr": 3e-3, "clip_grad": 1.0, "ema_decay": 0.5}
    return Recipe(
        task="segmentation" if system == "semantic_fpn" else "detection",
        data=DataConfig(source=str(data)),
        augmentation=Augmentation(policy="none", hflip=0.5),
        optimizer=OptimizerConfig(**{**usual, **moves}),
        dense=Dense(system=system, short_side=56, long_side=112, scale=(0.9, 1.2), crop=64, photometric=True),  # type: ignore[arg-type]
        machine=Machine(device="cpu", threads=1, save_steps=3),
    )


def quick(recipe: Recipe | None, folder: Path, *, page: bool = False, **more: Any) -> RunResult | None:
    """``train`` on a small backbone, silent; the report is left out, whose drawings take as long as the training."""
    with narrow():
        return train(recipe, folder, spec=pyramid_spec(), page=page, console=QUIET, **more)


def wait_in_batch(number: int, system: str, data: str, folder: str) -> None:
    """Train until a batch of training images, then print so and wait."""
    numbers = count(1)

    class Waiting(DetectionObjective):
        def forward(self, model: Any, batch: Any) -> Any:
            if model.training and next(numbers) == number:
                print("waiting", flush=True)
                time.sleep(600)
            return super().forward(model, batch)

    with patch("metaformer.tasks.detection.objective.DetectionObjective", Waiting):
        quick(recipe_for(system, data), Path(folder))


def shared_metrics(run: str) -> dict[str, float]:
    """A run's best weights, evaluated by all processes together."""
    recipe = RunConfig.read(Path(run)).recipe
    task = task_named(recipe.task)
    splits = task.open(recipe.data)
    with narrow():
        model = load_any(Path(run) / BEST).model
    objective, loaders = task.objective(recipe, splits, model), task.loaders(recipe, splits, model)
    engine = Engine(model, objective, recipe)
    return dict(engine.evaluate(engine.module, loaders.val, lambda: None).metrics)


if __name__ == "__main__":
    torch.set_num_threads(1)
    command, *words = sys.argv[1:]
    if command == "waiting":
        wait_in_batch(int(words[3]), *words[:3])
    elif command == "evaluated":
        print(json.dumps([shared_metrics(run) for run in words]))
    else:
        quick(recipe_for(*words[:2], epochs=1), Path(words[2]), evaluated="last")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
