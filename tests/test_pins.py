"""Numbers that were measured with version 0.1.0, before its rooms were moved: the same runs give them still.

``version_0_1_0/pins.json`` has the losses of five updates of every system and what its run came to; the folders beside
it are those runs, a sweep, exports and a saved model as version 0.1.0 wrote them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dense_models import pyramid_spec
from dense_run import narrow, recipe_for
from drawn_sets import ade20k_folder, class_folder, coco_folder
from rich.console import Console

from metaformer.recipe import Augmentation, DataConfig, Machine, OptimizerConfig, Recipe
from metaformer.run.train import train
from metaformer.spec.model import AnySpec, EmbeddingSpec, MLPSpec, ModelSpec, StageSpec
from metaformer.tasks.task import task_named
from metaformer.training.observer import Observer, StepRecord
from metaformer.training.trainer import Trainer

WRITTEN = Path(__file__).parent / "version_0_1_0"
PINS = json.loads((WRITTEN / "pins.json").read_text())
CPU = Machine(device="cpu", threads=1)
CLOSE = 2e-4
"""Relative: other processors round differently, which five updates of a detector enlarge."""


def tiny_spec(channels: int, classes: int) -> ModelSpec:
    """Two blocks for images of 8 × 8."""
    stages = (
        StageSpec(depth=1, width=16, embedding=EmbeddingSpec(stride=1), mlp=MLPSpec(ratio=2.0)),
        StageSpec(depth=1, width=24, mlp=MLPSpec(ratio=2.0)),
    )
    return ModelSpec(stages=stages, num_classes=classes, in_chans=channels, img_size=(8, 8), drop_path_rate=0.1)


def recipe_and_spec(name: str, root: Path) -> tuple[Recipe, AnySpec]:
    """The runs of ``pins.json``."""
    steps = {"epochs": 2, "lr": 3e-3, "ema_decay": 0.5, "accumulation": 2, "clip_grad": 1.0}
    if name == "digits":
        varied = Augmentation(policy="small", hflip=0.0, erase=0.3)
        moves = OptimizerConfig(**steps, batch_size=128, label_smoothing=0.1)
        return Recipe(augmentation=varied, optimizer=moves, machine=CPU), tiny_spec(1, 10)
    if name == "photos":
        varied = Augmentation(policy="imagenet", auto_augment="rand-m5-inc1", erase=0.5, mixup=0.2)
        data = DataConfig(source=str(class_folder(root / "photos")))
        moves = OptimizerConfig(**steps, batch_size=4)
        return Recipe(data=data, augmentation=varied, optimizer=moves, machine=CPU), tiny_spec(3, 3)
    folder = ade20k_folder(root, 16) if name == "semantic_fpn" else coco_folder(root, 16, masks=name == "mask_rcnn")
    return recipe_for(name, folder, epochs=2), pyramid_spec()


class Losses(Observer):
    def __init__(self) -> None:
        self.values: list[float] = []

    def stepped(self, step: StepRecord) -> None:
        self.values.append(step.loss)


@pytest.mark.parametrize("name", PINS)
def test_five_updates_give_the_losses_of_0_1_0(name: str, tmp_path: Path) -> None:
    recipe, spec = recipe_and_spec(name, tmp_path / "data")
    five = recipe.with_changes(optimizer=recipe.optimizer.with_changes(updates=5, epochs=100))
    task, losses = task_named(five.task), Losses()
    with narrow():
        splits = task.open(five.data)
        model, _ = task.build(five, splits, spec)
        loaders, objective = task.loaders(five, splits, model), task.objective(five, splits, model)
        Trainer(model, objective, five, loaders.train, loaders.val, tmp_path / "run", loaders.mixing, [losses]).fit()
    assert losses.values == pytest.approx(PINS[name]["losses"], rel=CLOSE)


@pytest.mark.parametrize("name", ["digits", "photos", "semantic_fpn"])
def test_a_run_comes_to_what_it_came_to_in_0_1_0(name: str, tmp_path: Path) -> None:
    recipe, spec = recipe_and_spec(name, tmp_path / "data")
    with narrow():
        result = train(recipe, tmp_path / "run", spec=spec, page=False, console=Console(quiet=True))
    assert result is not None
    assert dict(result.metrics) == pytest.approx(PINS[name]["figures"], rel=1e-3)
    assert (result.best, result.best_epoch) == (pytest.approx(PINS[name]["best"], rel=1e-3), PINS[name]["best_epoch"])
