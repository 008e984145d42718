"""Semantic FPN on ADE20K for 40,000 updates, with PoolFormer as the backbone (MetaFormer, section 4.3 and table 4).

    metaformer train --recipe ade20k/fpn --model poolformer_s12 --data ADE20K

    model            mIoU   parameters
    poolformer_s12   37.2   15,669,846
    poolformer_s24   40.3   25,143,638
    poolformer_s36   42.0   34,617,430
    poolformer_m36   42.4   59,778,006
    poolformer_m48   42.7   77,078,934

ADE20K is a folder with images/training, images/validation and annotations/ with the same subfolders: one PNG per image
with 0 for unlabeled pixels and 1 to 150 for the classes. The mIoU is the paper's, in percent on the validation split;
this project has not run it. Images are evaluated whole, resized to multiples of 32, which gains about one point.
"""

from __future__ import annotations

from metaformer.recipe import Augmentation, DataConfig, Dense, Machine, ModelConfig, OptimizerConfig, Recipe


def recipe(model: str = "poolformer_s12") -> Recipe:
    """The published run, for any backbone with published weights."""
    return Recipe(
        task="segmentation",
        model=ModelConfig(name=model, pretrained=True, drop_path_rate=0.0),
        data=DataConfig(source="ade20k", workers=4, verify="none", reduce_zero_label=True),
        augmentation=Augmentation(policy="none", hflip=0.5),
        optimizer=OptimizerConfig(
            updates=40_000,
            batch_size=32,
            name="adamw",
            lr=2e-4,
            weight_decay=1e-4,
            decay_everything=True,
            schedule="poly",
            power=0.9,
            min_lr=0.0,
        ),
        dense=Dense(
            system="semantic_fpn",
            short_side=512,
            long_side=2048,
            scale=(0.5, 2.0),
            crop=512,
            class_share=0.75,
            photometric=True,
        ),
        machine=Machine(precision="fp32"),
    )
