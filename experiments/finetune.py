"""Fine-tune published weights on your own images.

    metaformer train --recipe finetune --model poolformer_s12 --data IMAGES

IMAGES is a folder with a subfolder per class, or with train/ and val/ that have those. The weights are downloaded
once. Cost and accuracy depend on the images: 30 epochs of N images take 180 · N times the model's MACs in
floating-point operations.

The learning rate decreases from the head to the stem, the gradient is clipped, and the weights are averaged. A learning
rate of 4e-3, as used for training from scratch, is reported to destroy published CAFormer weights (timm's issue 2493);
this one is twenty times smaller.
"""

from __future__ import annotations

from metaformer.recipe import Augmentation, DataConfig, ModelConfig, OptimizerConfig, Recipe


def recipe(model: str = "poolformer_s12") -> Recipe:
    """Any model with published weights."""
    return Recipe(
        model=ModelConfig(name=model, pretrained=True, drop_path_rate=0.1),
        data=DataConfig(source="images", val_fraction=0.2),
        augmentation=Augmentation(
            policy="imagenet",
            scale=(0.35, 1.0),  # with few images, each crop should still show the labeled object
            auto_augment="rand-m9-mstd0.5-inc1",
            erase=0.1,
        ),
        optimizer=OptimizerConfig(
            epochs=30,
            batch_size=64,
            name="adamw",
            lr=2e-4,  # of the head; with layer_decay, less than a tenth of it from the eleventh layer down
            layer_decay=0.8,
            weight_decay=0.05,
            warmup_epochs=2,
            min_lr=1e-6,
            clip_grad=1.0,
            label_smoothing=0.1,
            ema_decay=0.999,
        ),
    )
