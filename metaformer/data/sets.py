"""What every source of labeled images looks like from outside: ``Images``, and ``ImageSplits`` of two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np
from PIL import Image

from ..errors import DataError
from .decode import Mode, read_image

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many are done, and how many there are."""


class LabeledImages(Protocol):
    """Labeled images, read one at a time."""

    labels: list[int]
    """The class index of each image."""
    skips_bad: bool
    """Whether an image that turns out unreadable may be replaced by the next one, or ends the run."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> Image.Image:
        """The image in mode ``L`` or ``RGB``; raises ``UnreadableImage``."""

    def name(self, index: int) -> str:
        """A path, or a name such as ``digits/17``."""


@dataclass(frozen=True)
class BadFile:
    """A file that was left out."""

    path: str
    reason: str


@dataclass(frozen=True)
class ImageSplits:
    """A data set, opened: what to train on, what to evaluate on, and what the labels mean."""

    train: LabeledImages
    val: LabeledImages
    classes: tuple[str, ...]
    """A name for each label."""
    channels: int
    """1 for gray images, 3 for color."""
    native_size: tuple[int, int] | None = None
    """Height and width where all images share them and they are known; None otherwise."""
    skipped: tuple[BadFile, ...] = ()
    """Files that were left out because they cannot be used."""
    held_out_here: bool = False
    """Whether the validation part was split off here because the data came in one piece."""

    def __post_init__(self) -> None:
        for part, images in (("training", self.train), ("validation", self.val)):
            if len(images) == 0:
                raise DataError(f"the {part} part has no image; expected at least one")
            low, high = min(images.labels), max(images.labels)
            if low < 0 or high >= len(self.classes):
                raise DataError(
                    f"the {part} part has labels from {low} to {high}; "
                    f"expected 0 to {len(self.classes) - 1} for {len(self.classes)} classes"
                )


@dataclass
class ImageFileDataset:
    """Images that are files, decoded when asked for."""

    paths: list[Path]
    labels: list[int]
    mode: Mode = "RGB"
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Image.Image:
        """The image, upright; raises ``UnreadableImage``."""
        return read_image(self.paths[index], self.mode)

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])


@dataclass
class ArrayDataset:
    """Gray images that lie in memory: ``pixels`` is (N, H, W) uint8."""

    pixels: np.ndarray
    labels: list[int]
    title: str
    numbers: list[int]
    """The position of each image in the set it came from; its name."""
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, index: int) -> Image.Image:
        """The image in mode ``L``."""
        return Image.fromarray(self.pixels[index])

    def name(self, index: int) -> str:
        """Such as ``digits/17``."""
        return f"{self.title}/{self.numbers[index]}"


def hold_out(labels: Sequence[int], classes: Sequence[str], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions to train on and to evaluate on, both rising, disjoint, together all.

    Of each class with two images or more, ``fraction`` is held out, at least one and never all. The draw depends
    on the seed, the class's name and its images, so other classes may come and go without moving it.
    """
    members: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        members.setdefault(label, []).append(position)
    held: list[int] = []
    for label, positions in members.items():
        count = min(max(1, round(len(positions) * fraction)), len(positions) - 1)
        entropy = np.random.SeedSequence([seed % 2**64, crc32(classes[label].encode())])
        # the legacy generator's stream is frozen by NumPy, so a split survives NumPy's releases
        drawn = np.random.RandomState(np.random.MT19937(entropy)).permutation(len(positions))[:count]
        held.extend(positions[i] for i in drawn)
    outside = set(held)
    return [i for i in range(len(labels)) if i not in outside], sorted(held)
