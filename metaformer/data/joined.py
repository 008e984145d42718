"""Two parts of a dataset as one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from .coco import CocoDataset


def joined(first: Any, second: Any) -> Any:
    """All samples of both parts, those of the second behind those of the first."""
    return (TogetherWithObjects if isinstance(second, CocoDataset) else Together)(first, second)


@dataclass
class Together:
    """Two sets of images as one, whatever is known of each image."""

    first: Any
    second: Any

    def __post_init__(self) -> None:
        self.skips_bad = self.first.skips_bad

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @cached_property
    def labels(self) -> list[int]:
        """Class indices, where each image has one."""
        return [*self.first.labels, *self.second.labels]

    def load(self, index: int) -> Any:
        """The image, with its annotation where it has one; raises ``UnreadableImage``."""
        part, index = self._place(index)
        return part.load(index)

    def name(self, index: int) -> str:
        """A path or a name."""
        part, index = self._place(index)
        return part.name(index)

    def _place(self, index: int) -> tuple[Any, int]:
        beyond = index - len(self.first)
        return (self.second, beyond) if beyond >= 0 else (self.first, index)


@dataclass
class TogetherWithObjects(Together):
    """Two sets of images with objects: those of the second have other numbers then."""

    first: CocoDataset
    second: CocoDataset

    def load(self, index: int) -> Any:
        """The image and its ``Objects``; raises ``UnreadableImage``."""
        image, objects = super().load(index)
        return image, {**objects, "image_id": torch.tensor(index)}

    def ground_truth(self) -> dict[str, Any]:
        """As a set's own, over both."""
        one, two = self.first.ground_truth(), self.second.ground_truth()
        start, taken = len(self.first), len(one["annotations"])
        images = [{**image, "id": image["id"] + start} for image in two["images"]]
        objects = [
            {**found, "id": found["id"] + taken, "image_id": found["image_id"] + start} for found in two["annotations"]
        ]
        return {**one, "images": one["images"] + images, "annotations": one["annotations"] + objects}
