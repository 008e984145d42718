"""Segmentation by the color of each pixel alone: a lower bound for the mean IoU of segmenters on the same dataset.

    python benchmarks/color_baseline.py IMAGES --no-reduce-zero-label --ignore-label 11

For every color of the training part, in ``--levels`` steps per channel, it counts the pixels of each class. A pixel of
the validation part is then given the likeliest class of its color: among all pixels (``likeliest``, best for pixel
accuracy), or as if all classes were equally frequent (``balanced``, which may be better for mean IoU). The metrics are
those of our models. One JSON document is printed to standard output.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from metaformer.data.dataset import Dataset
from metaformer.data.label_maps import open_label_maps
from metaformer.recipe import DataConfig
from metaformer.tasks.segmentation.objective import SegmentationMetric
from metaformer.types import IGNORED, Batch


def pixels_of(images: Dataset[Tensor], levels: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The number of each pixel's color (H, W), and the label map (H, W), image by image."""
    for index in range(len(images)):
        image, labels = images.load(index)
        steps = torch.from_numpy(np.array(image)).long() * levels // 256
        yield (steps[..., 0] * levels + steps[..., 1]) * levels + steps[..., 2], labels


def counted(images: Dataset[Tensor], classes: int, levels: int) -> Tensor:
    """How often each color has each class: (colors, classes)."""
    counts = torch.zeros(levels**3 * classes, dtype=torch.float64)
    for colors, labels in pixels_of(images, levels):
        known = labels != IGNORED
        counts += torch.bincount(colors[known] * classes + labels[known].long(), minlength=len(counts))
    return counts.reshape(-1, classes)


def evaluated(images: Dataset[Tensor], scores: Tensor, levels: int) -> dict[str, float]:
    """The metrics of predicting by a table of scores (colors, classes)."""
    metric = SegmentationMetric(scores.shape[1])
    for colors, labels in pixels_of(images, levels):
        logits = scores[colors].permute(2, 0, 1)
        metric.update([logits], Batch([logits], [labels]))
    return metric.compute([metric.part])


def main() -> None:
    """Count on the training part, evaluate on the validation part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("--levels", type=int, default=16)
    parser.add_argument("--no-reduce-zero-label", action="store_true")
    parser.add_argument("--ignore-label", type=int, default=DataConfig.ignore_label)
    asked = parser.parse_args()
    choice = DataConfig(
        source=asked.images, reduce_zero_label=not asked.no_reduce_zero_label, ignore_label=asked.ignore_label
    )
    splits = open_label_maps(choice)
    counts = counted(splits.train, len(splits.classes), asked.levels)
    smoothed = counts + 1e-3 * counts.sum(0) / counts.sum()  # an unseen color gets the frequencies of the classes
    likeliest = (smoothed / smoothed.sum(1, keepdim=True)).log()
    balanced = (smoothed / counts.sum(0).clamp(min=1)).log().log_softmax(1)
    found = {
        "likeliest": evaluated(splits.val, likeliest, asked.levels),
        "balanced": evaluated(splits.val, balanced, asked.levels),
    }
    about = {"levels": asked.levels, "classes": len(splits.classes), "val": len(splits.val)}
    print(json.dumps(about | found, indent=2))


if __name__ == "__main__":
    main()
