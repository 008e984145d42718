"""Quick runs of a tiny classifier on images of one color a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from metaformer.recipe import Augmentation, DataConfig, OptimizerConfig, Recipe
from metaformer.run.train import RunResult, train
from metaformer.spec.model import EmbeddingSpec, ModelSpec, StageSpec

QUIET = Console(quiet=True)


def tiny_spec() -> ModelSpec:
    """Two blocks, for images of 8 × 8."""
    stages = (StageSpec(depth=1, width=8, embedding=EmbeddingSpec(stride=1)), StageSpec(depth=1, width=16))
    return ModelSpec(stages=stages, img_size=(8, 8))


def recipe_for(data: Path | str, **moves: Any) -> Recipe:
    """Two quick epochs."""
    return Recipe(
        data=DataConfig(source=str(data)),
        augmentation=Augmentation(policy="none"),
        optimizer=OptimizerConfig(**{"epochs": 2, "batch_size": 6, "lr": 3e-3, **moves}),
    )


def quick(recipe: Recipe | None, folder: Path, *, page: bool = False, **more: Any) -> RunResult:
    """``train`` with the tiny model, silent; the report is left out, whose drawings take longer than the training."""
    result = train(recipe, folder, spec=tiny_spec(), page=page, **{"console": QUIET, **more})
    assert result is not None
    return result


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
