"""The dataset protocol: a ``Dataset`` loads one ``Sample`` at a time, ``Splits`` has a training and a validation part.

What the target of a sample is depends on the task: a class index, the objects in an image, a label map, or None where
images have no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, overload, runtime_checkable
from zlib import crc32

import numpy as np
from PIL import Image

from ..errors import DataError
from ..recipe import DataConfig

Target = TypeVar("Target", covariant=True)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""


class Sample(NamedTuple, Generic[Target]):
    """One example as it is stored, before any transform."""

    input: Image.Image
    """What the model is to see; an image in mode ``L`` or ``RGB``."""
    target: Target
    """What is known of it."""


class Dataset(Protocol[Target]):
    """Samples that are loaded one at a time. Datasets are pickled into worker processes."""

    @property
    def skips_bad(self) -> bool:
        """Whether a sample that turns out to be unreadable may be skipped; it ends the run otherwise."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> Sample[Target]:
        """The sample at ``index``; raises ``UnreadableImage``."""

    def name(self, index: int) -> str:
        """A path, or a name such as ``digits/17``."""


@runtime_checkable
class LabeledDataset(Dataset[int], Protocol):
    """Images with one class each, whose labels are known without decoding an image."""

    @property
    def labels(self) -> Sequence[int]:
        """The class index of each image."""


@dataclass(frozen=True)
class BadFile:
    """A file that was left out."""

    path: str
    reason: str


@dataclass(frozen=True)
class Splits(Generic[Target]):
    """An opened data source: what to train on, what to evaluate on, and what the targets mean."""

    train: Dataset[Target]
    val: Dataset[Target]
    classes: tuple[str, ...] = ()
    """A name for each label; the background has none. Empty where images have no labels."""
    channels: int = 3
    """1 for gray images, 3 for color."""
    native_size: tuple[int, int] | None = None
    """Height and width where all images share them and they are known; None otherwise."""
    skipped: tuple[BadFile, ...] = ()
    """Files and annotations that were left out because they cannot be used."""
    held_out_here: bool = False
    """Whether the validation part was split off here because the data has none of its own."""
    has_masks: bool = False
    """Whether every object has a mask."""

    def __post_init__(self) -> None:
        for part, dataset in (("training", self.train), ("validation", self.val)):
            if len(dataset) == 0:
                raise DataError(f"the {part} part has no image; expected at least one")
            if not isinstance(dataset, LabeledDataset):
                continue
            low, high = min(dataset.labels), max(dataset.labels)
            if low < 0 or high >= len(self.classes):
                raise DataError(
                    f"the {part} part has labels from {low} to {high}; "
                    f"expected 0 to {len(self.classes) - 1} for {len(self.classes)} classes"
                )


@dataclass
class ArrayDataset:
    """Gray images that lie in memory, with a class each."""

    pixels: np.ndarray
    """(N, H, W) uint8."""
    labels: list[int]
    title: str
    numbers: list[int]
    """The position of each image in the source it came from; its name."""
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, index: int) -> Sample[int]:
        """The image in mode ``L`` and its class."""
        return Sample(Image.fromarray(self.pixels[index]), self.labels[index])

    def name(self, index: int) -> str:
        """Such as ``digits/17``."""
        return f"{self.title}/{self.numbers[index]}"


@runtime_checkable
class Concatenable(Protocol):
    """A dataset whose samples refer to their own index, so that it has to be concatenated by itself."""

    def concatenate(self, other: Any) -> Any:
        """One dataset with the samples of ``other`` after its own."""


@overload
def concatenate(first: LabeledDataset, second: LabeledDataset) -> LabeledDataset: ...
@overload
def concatenate(first: Dataset[Target], second: Dataset[Target]) -> Dataset[Target]: ...
def concatenate(first: Dataset[Any], second: Dataset[Any]) -> Dataset[Any]:
    """One dataset with the samples of ``second`` after those of ``first``, such as both parts of ``Splits``."""
    if isinstance(first, Concatenable):
        both: Dataset[Any] = first.concatenate(second)
        return both
    return Concatenation(first, second)


@dataclass(frozen=True)
class Concatenation(Generic[Target]):
    """Two datasets as one."""

    first: Dataset[Target]
    second: Dataset[Target]

    @property
    def skips_bad(self) -> bool:
        """As the first says."""
        return self.first.skips_bad

    @property
    def labels(self) -> list[int]:
        """Class indices; raises ``AttributeError`` where the parts have none."""
        return [*self.first.labels, *self.second.labels]  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def load(self, index: int) -> Sample[Target]:
        """The sample; raises ``UnreadableImage``."""
        dataset, own = self._locate(index)
        return dataset.load(own)

    def name(self, index: int) -> str:
        """A path or a name."""
        dataset, own = self._locate(index)
        return dataset.name(own)

    def _locate(self, index: int) -> tuple[Dataset[Target], int]:
        beyond = index - len(self.first)
        return (self.second, beyond) if beyond >= 0 else (self.first, index)


def hold_out_by_class(
    labels: Sequence[int], classes: Sequence[str], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Indices to train on and to evaluate on: both sorted, disjoint, together all.

    Of each class with two images or more, ``fraction`` is held out, at least one and never all. The draw depends
    on the seed, the class's name and its number of images, so adding or removing other classes does not change it.
    """
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    held: list[int] = []
    for label, indices in members.items():
        count = min(max(1, round(len(indices) * fraction)), len(indices) - 1)
        entropy = np.random.SeedSequence([seed % 2**64, crc32(classes[label].encode())])
        # NumPy guarantees the stream of the legacy generator, not that of default_rng: splits must survive updates
        drawn = np.random.RandomState(np.random.MT19937(entropy)).permutation(len(indices))[:count]
        held.extend(indices[i] for i in drawn)
    outside = set(held)
    return [i for i in range(len(labels)) if i not in outside], sorted(held)


def hold_out(count: int, config: DataConfig) -> tuple[list[int], list[int]]:
    """The same for ``count`` images without classes; raises ``DataError`` where there is only one."""
    if count < 2:
        raise DataError(f"{config.source} has {count} image; expected two or more, or a validation part")
    # one class of a fixed name: other datasets and versions must not change the draw
    return hold_out_by_class([0] * count, ("images",), config.val_fraction, config.split_seed)
