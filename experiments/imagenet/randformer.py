"""RandFormer on ImageNet-1K from scratch (MetaFormer Baselines).

    metaformer train --recipe imagenet/randformer --model randformer_s12 --data IMAGENET

    model                    top-1   cost
    randformer_s12            76.6    4.5
    randformer_s24            78.2    8.4
    randformer_s36            79.5   12.4
    randformer_m36            81.2   21.5
    randformer_m48            81.4   28.4

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
    "randformer_s12": 0.1,
    "randformer_s24": 0.1,
    "randformer_s36": 0.2,
    "randformer_m36": 0.3,
    "randformer_m48": 0.3,  # as for m36 in the original script
}
"""Stochastic depth rate of the last block, by model."""


def recipe(model: str = "randformer_s12") -> Recipe:
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
