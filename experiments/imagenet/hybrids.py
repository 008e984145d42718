"""The first paper's other token mixers on ImageNet-1K from scratch (MetaFormer, table 5).

    metaformer train --recipe imagenet/hybrids --model metaformer_ppaa_s12_224 --data IMAGENET

    model                    top-1   cost
    metaformer_id_s12         74.3    4.3
    metaformer_pppa_s12_224   78.3    4.6
    metaformer_ppaa_s12_224   81.0    6.1
    metaformer_pppf_s12_224   77.5    4.3
    metaformer_ppff_s12_224   77.9    4.5

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

BATCH_SIZE = {
    "metaformer_id_s12": 4096,
    "metaformer_pppa_s12_224": 1024,
    "metaformer_ppaa_s12_224": 1024,
    "metaformer_pppf_s12_224": 4096,
    "metaformer_ppff_s12_224": 4096,
}
"""Images per update: models with attention were trained with smaller batches than the others."""


def recipe(model: str = "metaformer_ppaa_s12_224") -> Recipe:
    """The published run of one combination of mixers."""
    batch_size = settings_for(model, BATCH_SIZE)
    return Recipe(
        model=ModelConfig(name=model, drop_path_rate=0.1),
        data=DataConfig(source="imagenet", workers=8, verify="header"),
        augmentation=PAPER_AUGMENTATION,
        optimizer=OptimizerConfig(
            epochs=300,
            cooldown_epochs=10,  # the original script trains ten more epochs at min_lr
            batch_size=batch_size,
            accumulation=batch_size // 1024,  # 128 images per micro-batch on each of 8 GPUs
            name="adamw",
            lr=1e-3,
            lr_batch=1024,
            weight_decay=0.05,
            schedule="cosine",
            warmup_epochs=5,
            warmup_lr=1e-6,
            min_lr=1e-5,
            label_smoothing=0.1,
        ),
        machine=Machine(precision="bf16"),
    )
