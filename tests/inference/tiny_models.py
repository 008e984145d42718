"""A tiny model of each task with random weights, saved with the names of its classes."""

from __future__ import annotations

from pathlib import Path

import torch
from dense_models import SMALL, pyramid_spec
from dense_run import narrow

from metaformer.factory.classifier import create_model
from metaformer.factory.dense import create_detector, create_segmenter
from metaformer.spec.model import EmbeddingSpec, ModelSpec, StageSpec
from metaformer.weights.save import save_weights

NAMES = ("cat", "dog", "bird")


def saved_models(folder: Path) -> dict[str, Path]:
    """A weights file for each task."""
    stages = (StageSpec(depth=1, width=8, embedding=EmbeddingSpec(stride=2)), StageSpec(depth=1, width=16))
    torch.manual_seed(0)
    with narrow():
        models = {
            "classification": create_model(ModelSpec(stages=stages, num_classes=3, img_size=(16, 16))),
            "detection": create_detector("mask_rcnn", pyramid_spec(), **SMALL),
            "segmentation": create_segmenter(backbone=pyramid_spec(), **SMALL),
        }
        return {
            task: save_weights(model, folder / f"{task}.safetensors", classes=NAMES) for task, model in models.items()
        }
