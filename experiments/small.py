"""From scratch on small images, such as CIFAR-10's 32 × 32 or the digits' 8 × 8.

    metaformer train --recipe small --model poolformer_s12 --data digits

The published stem steps by 4 and the stages by 2 three times more, so that an image of 32 × 32 would end as a single
token. The run fits the stem to the images: a pyramid's keeps its window and steps by 1 up to 40 pixels (4 × 4 tokens
of 32 × 32 pixels), a model of one grid cuts 8 patches a side. ``--stem-stride`` says otherwise.
"""

from __future__ import annotations

from metaformer.recipe import Augmentation, DataConfig, ModelConfig, OptimizerConfig, Recipe


def recipe(model: str = "poolformer_s12", stem_stride: int | None = None) -> Recipe:
    """Any model; a ``stem_stride`` of 2 is cheaper where images have 64 pixels or more."""
    return Recipe(
        model=ModelConfig(name=model, stem_stride=stem_stride, drop_path_rate=0.1),
        data=DataConfig(source="digits"),
        augmentation=Augmentation(policy="small", hflip=0.0),  # a mirrored digit is another sign; CIFAR's animals: 0.5
        optimizer=OptimizerConfig(
            epochs=30,
            batch_size=128,
            name="adamw",
            lr=1e-3,
            weight_decay=0.05,
            warmup_epochs=0.5,  # so that a look with --epochs 1 is possible
            min_lr=1e-5,
            clip_grad=1.0,
            label_smoothing=0.1,
        ),
    )
