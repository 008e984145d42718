"""A detector on your own images, from scratch: small images, short training.

    metaformer train --recipe detection --model poolformer_s12 --data IMAGES

With ``--pretrained`` the backbone starts from its ImageNet weights, with ``--model.weights runs/mine`` from a
classifier of yours.

IMAGES is a folder in COCO's layout: images/train, images/val and annotations/instances_train.json and
instances_val.json; `metaformer data check IMAGES` checks it. The detector is Mask R-CNN if the objects have masks, else
RetinaNet; ``--dense.system`` chooses another. Images are resized to a short side of 320 pixels.
"""

from __future__ import annotations

from metaformer.recipe import Augmentation, DataConfig, Dense, ModelConfig, OptimizerConfig, Recipe


def recipe(model: str = "poolformer_s12", epochs: int = 40) -> Recipe:
    """Any backbone."""
    return Recipe(
        task="detection",
        model=ModelConfig(name=model, drop_path_rate=0.0),
        data=DataConfig(source="images"),
        augmentation=Augmentation(policy="none", hflip=0.5),
        optimizer=OptimizerConfig(
            epochs=epochs,
            batch_size=8,
            name="adamw",
            lr=5e-4,
            weight_decay=0.05,
            warmup_epochs=0.5,
            min_lr=1e-6,
            clip_grad=1.0,
        ),
        dense=Dense(short_side=320, long_side=533, scale=(0.8, 1.25)),
    )
