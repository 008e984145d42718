"""What every source of labelled pictures looks like from outside: ``Pictures``, and ``PictureSets`` of two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np
from PIL import Image

from ..errors import DataError
from .decode import Mode, read_picture

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many are done, and how many there are."""


class Pictures(Protocol):
    """Labelled pictures, read one at a time."""

    labels: list[int]
    """The class index of each picture."""
    skips_bad: bool
    """Whether a picture that turns out unreadable may be replaced by the next one, or ends the run."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> Image.Image:
        """The picture in mode ``L`` or ``RGB``; raises ``UnreadablePicture``."""

    def name(self, index: int) -> str:
        """A path, or a name such as ``digits/17``."""


@dataclass(frozen=True)
class BadPicture:
    """A file that was left out."""

    path: str
    reason: str


@dataclass(frozen=True)
class PictureSets:
    """A data set, opened: what to train on, what to evaluate on, and what the labels mean."""

    train: Pictures
    val: Pictures
    classes: tuple[str, ...]
    """A name for each label."""
    channels: int
    """1 for grey pictures, 3 for colour."""
    native_size: tuple[int, int] | None = None
    """Height and width where all pictures share them and they are known; nothing otherwise."""
    skipped: tuple[BadPicture, ...] = ()
    """Files that were left out because they cannot be used."""
    held_out_here: bool = False
    """Whether the validation part was split off here because the data came in one piece."""

    def __post_init__(self) -> None:
        for part, pictures in (("training", self.train), ("validation", self.val)):
            if len(pictures) == 0:
                raise DataError(f"the {part} part has no picture; expected at least one")
            low, high = min(pictures.labels), max(pictures.labels)
            if low < 0 or high >= len(self.classes):
                raise DataError(
                    f"the {part} part has labels from {low} to {high}; "
                    f"expected 0 to {len(self.classes) - 1} for {len(self.classes)} classes"
                )


@dataclass
class FilePictures:
    """Pictures that are files, decoded when asked for."""

    paths: list[Path]
    labels: list[int]
    mode: Mode = "RGB"
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Image.Image:
        """The picture, upright; raises ``UnreadablePicture``."""
        return read_picture(self.paths[index], self.mode)

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])


@dataclass
class ArrayPictures:
    """Grey pictures that lie in memory: ``pixels`` is (N, H, W) uint8."""

    pixels: np.ndarray
    labels: list[int]
    title: str
    numbers: list[int]
    """The position of each picture in the set it came from; its name."""
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, index: int) -> Image.Image:
        """The picture in mode ``L``."""
        return Image.fromarray(self.pixels[index])

    def name(self, index: int) -> str:
        """Such as ``digits/17``."""
        return f"{self.title}/{self.numbers[index]}"


def hold_out(labels: Sequence[int], classes: Sequence[str], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions to train on and to evaluate on, both rising, disjoint, together all.

    Of each class with two pictures or more, ``fraction`` is held out, at least one and never all. The draw depends
    on the seed, the class's name and its pictures, so other classes may come and go without moving it.
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
