"""Annotated images made up for the tests, and models whose predictions are known beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from metaformer.data.dataset import Sample
from metaformer.spec.dense import DenseSpec
from metaformer.types import Objects, Preprocessing
from metaformer.zoo.catalogue import find

CLASSES = ("red <disc>", "green & square", "ground")
COLORS = ((200, 30, 30), (30, 200, 30))
HEIGHT, WIDTH = 48, 64


@dataclass
class Scenes:
    """Each image has a red square on the left and, in every second one, a green one on the right."""

    count: int = 5
    skips_bad: bool = False
    has_masks: bool = True

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"scenes/{index}.jpg"

    def boxes(self, index: int) -> list[list[float]]:
        left = [[4.0, 6.0 + index, 24.0, 30.0 + index]]
        return left if index % 2 else [*left, [36.0, 10.0, 60.0, 34.0]]

    def pixels(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image and its label map; the ground has label 2."""
        image = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
        labels = np.full((HEIGHT, WIDTH), 2, dtype=np.uint8)
        for label, (left, top, right, bottom) in enumerate(self.boxes(index)):
            area = np.s_[int(top) : int(bottom), int(left) : int(right)]
            image[area], labels[area] = COLORS[label], label
        return image, labels


class ObjectScenes(Scenes):
    """With their objects."""

    def load(self, index: int) -> Sample[Objects]:
        image, labels = self.pixels(index)
        boxes = self.boxes(index)
        masks = np.stack([(labels == label) for label in range(len(boxes))]).astype(np.uint8)
        objects = {"boxes": torch.tensor(boxes), "labels": torch.arange(len(boxes)), "masks": torch.from_numpy(masks)}
        return Sample(Image.fromarray(image), objects | {"image_id": torch.tensor(index)})

    def ground_truth(self) -> dict[str, Any]:
        annotations = []
        for index in range(self.count):
            for label, (left, top, right, bottom) in enumerate(self.boxes(index)):
                polygon = [left, top, right, top, right, bottom, left, bottom]
                box = [left, top, right - left, bottom - top]
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": index, "category_id": label + 1, "bbox": box, "iscrowd": 0,
                     "area": box[2] * box[3], "segmentation": [polygon]}
                )  # fmt: skip
        return {
            "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i in range(self.count)],
            "annotations": annotations,
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
        }


class LabeledScenes(Scenes):
    """With their label maps; the lowest rows are not labeled."""

    def load(self, index: int) -> Sample[Tensor]:
        image, labels = self.pixels(index)
        labels[-4:] = 255
        return Sample(Image.fromarray(image), torch.from_numpy(labels).long())


class ColorDetector(nn.Module):
    """Finds red and green squares; it also reports a false positive at 55 % and one at 10 %."""

    def __init__(self, masks: bool = True) -> None:
        super().__init__()
        self.spec = DenseSpec(
            system="mask_rcnn" if masks else "retinanet", backbone=find("poolformer_s12").spec, num_classes=len(CLASSES)
        )
        self.name, self.preprocessing, self.num_classes = "colors", Preprocessing(), len(CLASSES)

    def forward(self, images: list[Tensor]) -> list[Objects]:
        return [self._found(image) for image in images]

    def _found(self, image: Tensor) -> Objects:
        masks = [(image[label] > 0.6) & (image[1 - label] < 0.3) for label in range(2)]
        kept = [label for label in range(2) if masks[label].any()]
        boxes = []
        for label in kept:
            rows, columns = torch.where(masks[label])
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        wrong = torch.zeros(2, *image.shape[1:])
        wrong[:, 40:46, 2:10] = 0.8
        boxes += [[2, 40, 10, 46], [0, 0, 5, 5]]
        found = {
            "boxes": torch.tensor(boxes, dtype=torch.float32),
            "labels": torch.tensor([*kept, 0, 1]),
            "scores": torch.tensor([*[0.9, 0.8][: len(kept)], 0.55, 0.1]),
        }
        if self.spec.finds_masks:
            found["masks"] = torch.cat([torch.stack([masks[label] for label in kept]).float(), wrong])
        return found


class ColorSegmenter(nn.Module):
    """Finds red and green pixels on the left; right of the middle everything is ground to it."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = DenseSpec(
            system="semantic_fpn", backbone=find("poolformer_s12").spec, num_classes=len(CLASSES), short_side=96,
            long_side=512,
        )  # fmt: skip
        self.name, self.num_classes = "colors", len(CLASSES)
        self.preprocessing = Preprocessing(mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))

    def forward(self, images: Tensor) -> Tensor:
        red, green = images[:, 0], images[:, 1]
        scores = torch.stack([red - green, green - red, torch.full_like(red, 0.2)], dim=1) * 10
        scores[:, 2, :, images.shape[-1] // 2 :] = 30
        return scores
