"""Training from scratch on small images, such as CIFAR-10's 32 × 32 or the digits' 8 × 8.

    metaformer train --recipe small --model poolformer_s12 --data digits

The published stem has a stride of 4 and the stages three strides of 2, so that 32 × 32 pixels would end as a single
token. Training adapts the stem to the images: the stem of a pyramid keeps its kernel and has stride 1 up to 40 pixels
(4 × 4 tokens for 32 × 32 pixels), a model with one grid gets 8 patches per side. ``--stem-stride`` sets another stride.
"""

from __future__ import annotations

from metaformer.recipe import Augmentation, DataConfig, ModelConfig, OptimizerConfig, Recipe


def recipe(model: str = "poolformer_s12", stem_stride: int | None = None) -> Recipe:
    """Any model; a ``stem_stride`` of 2 is cheaper for images of 64 pixels or more."""
    return Recipe(
        model=ModelConfig(name=model, stem_stride=stem_stride, drop_path_rate=0.1),
        data=DataConfig(source="digits"),
        augmentation=Augmentation(policy="small", hflip=0.0),  # a flipped digit is no digit; use 0.5 for CIFAR
        optimizer=OptimizerConfig(
            epochs=30,
            batch_size=128,
            name="adamw",
            lr=1e-3,
            weight_decay=0.05,
            warmup_epochs=0.5,  # less than 1, so that --epochs 1 is possible
            min_lr=1e-5,
            clip_grad=1.0,
            label_smoothing=0.1,
        ),
    )
