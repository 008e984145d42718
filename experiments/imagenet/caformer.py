"""CAFormer on ImageNet-1K from scratch (MetaFormer Baselines).

    metaformer train --recipe imagenet/caformer --model caformer_s18 --data IMAGENET

    model                    top-1   cost
    caformer_s18              83.6    9.8
    caformer_s36              84.5   19.1
    caformer_m36              85.2   31.7
    caformer_b36              85.5   55.3

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

DROPOUT = {
    "caformer_s18": (0.15, 0.0),
    "caformer_s36": (0.3, 0.4),
    "caformer_m36": (0.4, 0.4),
    "caformer_b36": (0.6, 0.5),
}
"""Stochastic depth rate of the last block and dropout rate in the head, by model."""


def recipe(model: str = "caformer_s18") -> Recipe:
    """The published run of one size of the family."""
    drop_path, head_dropout = settings_for(model, DROPOUT)
    return Recipe(
        model=ModelConfig(name=model, drop_path_rate=drop_path, drop_rate=head_dropout),
        data=DataConfig(source="imagenet", workers=8, verify="header"),
        augmentation=PAPER_AUGMENTATION,
        optimizer=OptimizerConfig(
            epochs=300,
            cooldown_epochs=10,  # the original script trains ten more epochs at min_lr
            batch_size=4096,
            accumulation=4,  # 128 images per micro-batch on each of 8 GPUs
            name="lamb",  # timm's: it clips the global gradient norm to 1 itself
            lr=8e-3,
            lr_batch=4096,
            weight_decay=0.05,
            schedule="cosine",
            warmup_epochs=20,
            warmup_lr=1e-6,
            min_lr=1e-5,
            label_smoothing=0.1,
        ),
        machine=Machine(precision="bf16"),  # float16 is reported to end in NaN with caformer_b36
    )
