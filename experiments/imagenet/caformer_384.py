"""CAFormer at 384 × 384, fine-tuned for 30 epochs from its weights of 224 × 224 (MetaFormer Baselines).

    metaformer train --recipe imagenet/caformer_384 --model caformer_s18_384 --data IMAGENET

    model                    top-1   cost
    caformer_s18_384          85.0    3.1
    caformer_s36_384          85.7    6.0
    caformer_m36_384          86.2    9.7
    caformer_b36_384          86.4   16.7

IMAGENET is a folder with train/ and val/, each with a subfolder per class. The accuracy is the paper's, in percent;
this project has not run it. The cost is in 10¹⁸ floating-point operations: six for every multiply-add of an image
(forward and backward), 30 epochs of 1,281,167 images.
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
    "caformer_s18_384": (0.3, 0.4),
    "caformer_s36_384": (0.5, 0.4),
    "caformer_m36_384": (0.7, 0.4),
    "caformer_b36_384": (0.8, 0.5),
}
"""Stochastic depth rate of the last block and dropout rate in the head, by model."""


def recipe(model: str = "caformer_s18_384") -> Recipe:
    """The published fine-tuning of one size."""
    drop_path, head_dropout = settings_for(model, DROPOUT)
    start = f"timm/{model.removesuffix('_384')}.sail_in1k"
    return Recipe(
        model=ModelConfig(name=model, weights=start, drop_path_rate=drop_path, drop_rate=head_dropout),
        data=DataConfig(source="imagenet", workers=8, verify="header"),
        augmentation=PAPER_AUGMENTATION.with_changes(mixup=0.0, cutmix=0.0),
        optimizer=OptimizerConfig(
            epochs=30,
            batch_size=1024,
            accumulation=4,  # 32 images per micro-batch on each of 8 GPUs
            name="lamb",
            lr=1e-4,
            lr_batch=1024,
            weight_decay=0.05,
            schedule="constant",
            label_smoothing=0.1,
            ema_decay=0.9999,
        ),
        machine=Machine(precision="bf16"),  # float16 is reported to end in NaN with caformer_b36
    )
