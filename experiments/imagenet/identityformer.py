"""IdentityFormer on ImageNet-1K from scratch (MetaFormer Baselines).

    metaformer train --recipe imagenet/identityformer --model identityformer_s12 --data IMAGENET

    model                    top-1   cost
    identityformer_s12        74.6    4.3
    identityformer_s24        78.2    8.1
    identityformer_s36        79.3   11.8
    identityformer_m36        80.0   20.9
    identityformer_m48        80.4   27.5

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
    "identityformer_s12": 0.1,
    "identityformer_s24": 0.1,
    "identityformer_s36": 0.2,
    "identityformer_m36": 0.3,
    "identityformer_m48": 0.4,
}
"""Stochastic depth rate of the last block, by model."""


def recipe(model: str = "identityformer_s12") -> Recipe:
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
