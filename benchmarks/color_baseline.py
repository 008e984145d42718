"""How far does a pixel's color alone go? The floor under every segmenter's mean IoU on the same set.

    python benchmarks/color_baseline.py IMAGES --no-reduce-zero-label --ignore-label 11

Every color of the training part, in ``--levels`` steps a channel, remembers how often each class had it. A pixel of
the validation part then gets the class that is likeliest for its color: among all pixels (``likeliest``, best for the
share of right pixels), or with all classes as frequent as one another (``balanced``, which mean IoU may like better).
The figures come from the metric that judges our models. One JSON document goes to the standard output.
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
    """How often each color had each class: (colors, classes), one more than seen."""
    counts = torch.zeros(levels**3 * classes, dtype=torch.float64)
    for colors, labels in pixels_of(images, levels):
        known = labels != IGNORED
        counts += torch.bincount(colors[known] * classes + labels[known].long(), minlength=len(counts))
    return counts.reshape(-1, classes)


def judged(images: Dataset[Tensor], scores: Tensor, levels: int) -> dict[str, float]:
    """The figures of always answering by a table of scores (colors, classes)."""
    metric = SegmentationMetric(scores.shape[1])
    for colors, labels in pixels_of(images, levels):
        logits = scores[colors].permute(2, 0, 1)
        metric.update([logits], Batch([logits], [labels]))
    return metric.compute([metric.part])


def main() -> None:
    """Count one part, judge the other."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("images")
    words.add_argument("--levels", type=int, default=16)
    words.add_argument("--no-reduce-zero-label", action="store_true")
    words.add_argument("--ignore-label", type=int)
    asked = words.parse_args()
    choice = DataConfig(
        source=asked.images, reduce_zero_label=not asked.no_reduce_zero_label, ignore_label=asked.ignore_label
    )
    sets = open_label_maps(choice)
    counts = counted(sets.train, len(sets.classes), asked.levels)
    smoothed = counts + 1e-3 * counts.sum(0) / counts.sum()  # a color never seen gets the frequencies of the classes
    likeliest = (smoothed / smoothed.sum(1, keepdim=True)).log()
    balanced = (smoothed / counts.sum(0).clamp(min=1)).log().log_softmax(1)
    found = {
        "likeliest": judged(sets.val, likeliest, asked.levels),
        "balanced": judged(sets.val, balanced, asked.levels),
    }
    print(json.dumps({"levels": asked.levels, "classes": len(sets.classes), "val": len(sets.val), **found}, indent=2))


if __name__ == "__main__":
    main()
