"""A short training from scratch that compares models on small images, used by the ablation plans.

    metaformer train --recipe short --model poolformer_s12 --data digits

There is no label smoothing, no mixup, no stochastic depth and no augmentation, since these pay off in long trainings
only. Photographs gain from ``--augmentation.policy small --augmentation.hflip 0.5``, which shifts and flips them. On
the digits, a shift by one of eight pixels costs PoolFormer five points in twelve epochs.
"""

from __future__ import annotations

from metaformer.recipe import Augmentation, DataConfig, ModelConfig, OptimizerConfig, Recipe


def recipe(model: str = "poolformer_s12", epochs: int = 12) -> Recipe:
    """Any model."""
    return Recipe(
        model=ModelConfig(name=model),
        data=DataConfig(source="digits"),
        augmentation=Augmentation(policy="none"),
        optimizer=OptimizerConfig(
            epochs=epochs,
            batch_size=64,
            name="adamw",
            lr=3e-3,
            weight_decay=0.05,
            warmup_epochs=0.5,
            min_lr=1e-5,
            clip_grad=1.0,
        ),
    )
