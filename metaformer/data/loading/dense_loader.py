"""Annotated images in, batches out, as ``loader.py`` does it for images with a class each.

Which images stand in a batch follows from (seed, epoch), what happens to one from (seed, epoch, index), and nothing
from the number of workers; so a run that goes on sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...recipe import Augmentation, Dense
from ...types import Preprocessing
from ..annotated import Annotated
from ..coco import CocoDataset
from ..decode import UnreadableImage
from ..transforms.paired import (
    DetectionEvaluation,
    DetectionTraining,
    SegmentationEvaluation,
    SegmentationTraining,
    Sizes,
)
from .loader import ParcelLoader
from .samples import Parcel, Parcels, Position, readable, refused
from .schedule import Plan
from .seeding import seed_sample

Transform = Callable[[Image.Image, Any], tuple[Tensor, Any]]


def dense_training_loader(
    images: Annotated,
    spec: Sizes,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    dense: Dense,
    *,
    seed: int,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> ParcelLoader:
    """Images in a new order every epoch, varied as ``augmentation`` and ``dense`` say.

    Batches are lists of images and ``Objects`` for detectors, tensors (B, 3, S, S) and (B, S, S) for segmenters.
    """
    segmenter = spec.system == "semantic_fpn"
    transform: Transform = (
        SegmentationTraining(spec, augmentation, dense, preprocessing)
        if segmenter
        else DetectionTraining(augmentation, dense, preprocessing)
    )
    plan = Plan(count=len(images), batch_size=batch_size, seed=seed, shuffle=True, rank=rank, world=world)
    samples = AnnotatedSamples(_as_needed(images, spec), transform, seed, stacks=segmenter, replaces=True)
    return ParcelLoader(samples, plan, workers)


def dense_evaluation_loader(
    images: Annotated,
    spec: Sizes,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> ParcelLoader:
    """Every image once, in the set's order, as the model is to be judged on it: lists of images and targets.

    One that turns out unreadable and may be left out is missing in its batch, which may then be empty.
    """
    segmenter = spec.system == "semantic_fpn"
    transform: Transform = SegmentationEvaluation(spec, preprocessing) if segmenter else DetectionEvaluation()
    plan = Plan(count=len(images), batch_size=batch_size, seed=0, shuffle=False, rank=rank, world=world)
    samples = AnnotatedSamples(_as_needed(images, spec), transform, seed=0, stacks=False, replaces=False)
    return ParcelLoader(samples, plan, workers)


def _as_needed(images: Annotated, spec: Sizes) -> Annotated:
    """Without masks where the system makes no use of them: filling them takes longer than reading the image."""
    return images.boxes_only() if isinstance(images, CocoDataset) and spec.system != "mask_rcnn" else images


@dataclass
class AnnotatedSamples(Parcels):
    """Reads and varies annotated images."""

    images: Annotated
    transform: Transform
    seed: int
    stacks: bool
    """Whether all come out at one size, so that a batch is two tensors and not two lists."""
    replaces: bool
    """Whether the next image takes the place of one that may be left out; it is missing otherwise, because an image
    that is judged twice would count twice."""

    def packed(self, positions: list[Position]) -> Parcel:
        """A batch, with what was left out in it."""
        replaced: list[tuple[str, str]] = []
        samples = [self._sample(epoch, index, replaced) for epoch, index in positions]
        kept = [sample for sample in samples if sample is not None]
        images, targets = [image for image, _ in kept], [target for _, target in kept]
        if self.stacks:
            return Parcel(torch.stack(images), torch.stack(targets), replaced)
        return ListedParcel(images, targets, replaced)

    def _sample(self, epoch: int, index: int, replaced: list[tuple[str, str]]) -> tuple[Tensor, Any] | None:
        loaded = readable(self.images, index, replaced)[0] if self.replaces else self._here(index, replaced)
        if loaded is None:
            return None
        seed_sample(self.seed, epoch, index)
        return self.transform(*loaded)

    def _here(self, index: int, left_out: list[tuple[str, str]]) -> tuple[Image.Image, Any] | None:
        try:
            return self.images.load(index)
        except UnreadableImage as error:
            if not self.images.skips_bad:
                raise refused(error) from None
            left_out.append((error.name, f"{error}; it is left out"))
            return None


@dataclass
class ListedParcel(Parcel):
    """A batch of lists. Its targets leave a worker as plain bytes: each tensor would take an open file, and a process
    may have about a thousand of them."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "targets": _each(self.targets, lambda tensor: tensor.numpy())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, targets=_each(state["targets"], torch.from_numpy))


def _each(targets: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    """All tensors or arrays of a batch's label maps or ``Objects`` changed."""
    return [
        {name: change(value) for name, value in target.items()} if isinstance(target, dict) else change(target)
        for target in targets
    ]
