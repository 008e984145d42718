"""Mask R-CNN on COCO for 12 epochs, with PoolFormer as the backbone (MetaFormer, section 4.2 and table 3).

    metaformer train --recipe coco/mask_rcnn --model poolformer_s12 --data COCO

    model            box AP   mask AP   parameters
    poolformer_s12     37.3      34.6   31,570,608
    poolformer_s24     40.1      37.0   41,044,400
    poolformer_s36     41.0      37.7   50,518,192

COCO is a folder with images/train2017, images/val2017 and annotations/instances_*2017.json. The AP is the paper's, in
percent on val2017; this project has not run it. The backbone starts from its ImageNet weights, which are downloaded.
"""

from __future__ import annotations

from metaformer.recipe import Augmentation, DataConfig, Dense, Machine, ModelConfig, OptimizerConfig, Recipe


def recipe(model: str = "poolformer_s12") -> Recipe:
    """The published run, for any backbone with published weights."""
    return Recipe(
        task="detection",
        model=ModelConfig(name=model, pretrained=True, drop_path_rate=0.0),
        data=DataConfig(source="coco", workers=4, verify="none", on_bad_image="skip"),
        augmentation=Augmentation(policy="none", hflip=0.5),
        optimizer=OptimizerConfig(
            epochs=12,
            batch_size=16,
            name="adamw",
            lr=2e-4,  # from the original config file; the paper states 1e-4
            weight_decay=1e-4,
            decay_everything=True,
            schedule="step",
            step_epochs=(8, 11),
            warmup_updates=500,
            warmup_lr=2e-7,
        ),
        dense=Dense(system="mask_rcnn", short_side=800, long_side=1333),
        machine=Machine(precision="fp32"),
    )
