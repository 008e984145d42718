"""A short training from scratch for comparing models on small images: what the ablation plans use.

    metaformer train --recipe short --model poolformer_s12 --data digits

Everything that would need a long training to pay off is left out: no label smoothing, no mixing, no stochastic depth,
and images as they are. Photographs gain from ``--augmentation.policy small --augmentation.hflip 0.5``, which shifts
and mirrors them; on the digits a shift by one pixel of eight costs PoolFormer five points in twelve epochs.
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
