"""PoolFormerV2 on ImageNet-1K from scratch (MetaFormer Baselines).

    metaformer train --recipe imagenet/poolformerv2 --model poolformerv2_s12 --data IMAGENET

    model                    top-1   cost
    poolformerv2_s12          78.0    4.3
    poolformerv2_s24          80.7    8.1
    poolformerv2_s36          81.6   11.8
    poolformerv2_m36          82.2   20.9
    poolformerv2_m48          82.6   27.5

IMAGENET is a folder with train/ and val/, each with a subfolder per class. The accuracy is the paper's, in percent;
this project has not run it. The cost is in 10¹⁸ floating-point operations: six for every multiply-add of an image
(forward and backward), 310 epochs of 1,281,167 images.
"""

from __future__ import annotations

from metaformer.recipe import (
    PAPER_AUGMENTATION,
    DataConfig,
    Machine,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    settings_for,
)

DROP_PATH = {
    "poolformerv2_s12": 0.1,
    "poolformerv2_s24": 0.1,
    "poolformerv2_s36": 0.2,
    "poolformerv2_m36": 0.3,
    "poolformerv2_m48": 0.4,
}
"""Stochastic depth rate of the last block, by model."""


def recipe(model: str = "poolformerv2_s12") -> Recipe:
    """The published run of one size of the family."""
    drop_path = settings_for(model, DROP_PATH)
    return Recipe(
        model=ModelConfig(name=model, drop_path_rate=drop_path),
        data=DataConfig(source="imagenet", workers=8, verify="header"),
        augmentation=PAPER_AUGMENTATION,
        optimizer=OptimizerConfig(
            epochs=300,
            cooldown_epochs=10,  # the original script trains ten more epochs at min_lr
            batch_size=4096,
            accumulation=4,  # 128 images per micro-batch on each of 8 GPUs
            name="adamw",
            lr=4e-3,
            lr_batch=4096,
            weight_decay=0.05,
            schedule="cosine",
            warmup_epochs=5,
            warmup_lr=1e-6,
            min_lr=1e-5,
            label_smoothing=0.1,
        ),
        machine=Machine(precision="bf16"),
    )
