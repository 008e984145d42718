"""A segmenter on your own images, from scratch: small images, short training.

    metaformer train --recipe segmentation --model poolformer_s12 --data IMAGES

With ``--pretrained`` the backbone starts from its ImageNet weights, with ``--model.weights runs/mine`` from a
classifier of yours.

IMAGES is a folder in ADE20K's layout: images/training, images/validation, and annotations/ with the same subfolders,
one PNG per image; `metaformer data check IMAGES` checks it. As in ADE20K, label 0 is ignored and the classes are
counted from 1. With ``--data.no-reduce-zero-label`` 0 is a class; ``--data.ignore-label`` sets the label to ignore.
"""

from __future__ import annotations

from metaformer.recipe import Augmentation, DataConfig, Dense, ModelConfig, OptimizerConfig, Recipe


def recipe(model: str = "poolformer_s12", epochs: int = 40) -> Recipe:
    """Any backbone."""
    return Recipe(
        task="segmentation",
        model=ModelConfig(name=model, drop_path_rate=0.0),
        data=DataConfig(source="images"),
        augmentation=Augmentation(policy="none", hflip=0.5),
        optimizer=OptimizerConfig(
            epochs=epochs,
            batch_size=8,
            name="adamw",
            lr=1e-3,
            weight_decay=0.05,
            warmup_epochs=0.5,
            min_lr=1e-6,
            clip_grad=1.0,
        ),
        dense=Dense(short_side=256, long_side=1024, scale=(0.5, 2.0), crop=224, photometric=True),
    )
