"""A folder in ADE20K's layout in, ``AnnotatedSplits`` out: images with a class for each pixel.

``images/training/NAME.jpg`` beside ``annotations/training/NAME.png``, and the same below ``validation`` (or ``train``
and ``val``). What is stored in a label map becomes 0 to K - 1, and 255 where it is ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import DataError
from ..recipe import DataConfig
from .annotated import IGNORED, AnnotatedSplits, annotated_folder, held_out, refuse_faults
from .decode import UnreadableImage, is_image_name, read_image, read_label_map, read_size
from .sets import BadFile, Progress
from .verify import Size, look_at, looked_through

EXPECTED = "images/training/*.jpg and annotations/training/*.png (ADE20K's layout)"

_TRAIN_NAMES = ("training", "train")
_VAL_NAMES = ("validation", "val")
_STORED = 2**16  # a label map has 8 or 16 bits
_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Labels:
    """What the numbers in label maps mean."""

    classes: tuple[str, ...]
    """A name for each label."""
    reduce_zero_label: bool
    ignore_label: int
    _table: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        if len(self.classes) > IGNORED:
            raise DataError(f"expected at most {IGNORED} classes in label maps, got {len(self.classes)}")
        table = np.full(_STORED, _UNKNOWN, np.int64)
        first = int(self.reduce_zero_label)
        table[first : first + len(self.classes)] = np.arange(len(self.classes))
        if self.reduce_zero_label:
            table[0] = IGNORED
        if 0 <= self.ignore_label < _STORED:
            table[self.ignore_label] = IGNORED
        object.__setattr__(self, "_table", table)

    def of(self, stored: np.ndarray) -> np.ndarray:
        """Labels of stored numbers, int64; raises ``ValueError`` for one that means nothing."""
        labels = self._table[stored.clip(0, _STORED - 1)]
        if (labels == _UNKNOWN).any():
            raise ValueError(self._told(np.unique(stored[labels == _UNKNOWN])))
        return labels

    def _told(self, unknown: np.ndarray) -> str:
        first = int(self.reduce_zero_label)
        shown = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        zero = "0 (ignored), " if first else ""
        return (
            f"it has the label {shown}; expected {zero}{first} to {first + len(self.classes) - 1} for "
            f"{len(self.classes)} classes, or {self.ignore_label} (ignored)"
        )


@dataclass(frozen=True, eq=False)
class LabelMapDataset:
    """One part of a set in ADE20K's layout. ``len`` is its number of images."""

    paths: tuple[Path, ...]
    maps: tuple[Path, ...]
    labels: Labels
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The image's path."""
        return str(self.paths[index])

    def load(self, index: int) -> tuple[Image.Image, Tensor]:
        """The image, upright ``RGB``, and its label map, (H, W) int64; raises ``UnreadableImage``."""
        image = read_image(self.paths[index])
        label_map = self.label_map(index)
        if label_map.shape != (image.height, image.width):
            size = (label_map.shape[0], label_map.shape[1])
            raise UnreadableImage(self.name(index), _other_size(self.maps[index], size, (image.height, image.width)))
        return image, label_map

    def label_map(self, index: int) -> Tensor:
        """(H, W) int64 without reading the image; raises ``UnreadableImage``."""
        stored = read_label_map(self.maps[index])
        try:
            return torch.from_numpy(self.labels.of(stored))
        except ValueError as error:
            raise UnreadableImage(str(self.maps[index]), str(error)) from None

    def part(self, positions: Sequence[int]) -> LabelMapDataset:
        """Some of the images as a set of their own."""
        paths, maps = tuple(self.paths[i] for i in positions), tuple(self.maps[i] for i in positions)
        return LabelMapDataset(paths, maps, self.labels, self.skips_bad)


def is_label_map_folder(root: Path) -> bool:
    """Whether a folder looks like ADE20K's layout."""
    return any((root / "images" / name).is_dir() and (root / "annotations" / name).is_dir() for name in _TRAIN_NAMES)


def open_segmentation(choice: DataConfig, progress: Progress | None = None) -> AnnotatedSplits:
    """The images and label maps below ``choice.source``.

    Classes are those of ``classes.tsv`` (columns ``label``, as stored, and ``name``) or of ADE20K's own
    ``objectInfo150.txt``; without either they are as many as the label maps show. What cannot be right is refused or
    left out as ``choice.on_bad_image`` says. Without a validation part ``choice.val_fraction`` is held out.

    Raises:
        DataError: the folder is not in this layout, a part is empty, no pixel has a class, or there are faults.
    """
    root = annotated_folder(choice, EXPECTED)
    parts = [_pairs(root, name) for name in _part_names(root)]
    bad = [fault for _, faults in parts for fault in faults]
    pairs = [pair for found, _ in parts for pair in found]
    named = _class_names(root, choice)
    sizes, unreadable = look_at([image for image, _ in pairs], choice, progress)
    maps, broken = _looked_at([label_map for _, label_map in pairs], choice, progress, decode=named is None)
    bad += unreadable + broken
    labels = Labels(named or _numbered(_summed(maps.values()), choice), choice.reduce_zero_label, choice.ignore_label)
    bad += _mismatched(pairs, sizes, maps, labels)
    refuse_faults(bad, choice, root)

    left_out = {fault.path for fault in bad}
    kept = [[pair for pair in found if not left_out & {str(pair[0]), str(pair[1])}] for found, _ in parts]
    opened = [_part(found, labels, choice) for found in kept]
    _check_labelled(root, kept, maps, labels)
    if len(opened) == 1:
        here, there = held_out(len(opened[0]), choice)
        opened = [opened[0].part(here), opened[0].part(there)]
    return AnnotatedSplits(
        train=opened[0],
        val=opened[1],
        classes=labels.classes,
        skipped=tuple(bad),
        held_out_here=len(parts) == 1,
    )


def _part_names(root: Path) -> list[str]:
    """The folders to train on and, where there is one, to evaluate on."""
    found = [
        next((name for name in names if (root / "images" / name).is_dir()), None)
        for names in (
            _TRAIN_NAMES,
            _VAL_NAMES,
        )
    ]
    train, val = found
    if train is None:
        raise DataError(f"{root} has no images/training. Expected {EXPECTED}")
    return [train] if val is None else [train, val]


Pair = tuple[Path, Path]


def _pairs(root: Path, part: str) -> tuple[list[Pair], list[BadFile]]:
    """The images of a part with their label maps, in the order of their names, and those that are alone."""
    images = _by_name(root / "images" / part)
    maps = _by_name(root / "annotations" / part)
    if not images:
        raise DataError(f"{root / 'images' / part} has no image; expected at least one")
    if not maps:
        raise DataError(f"{root / 'annotations' / part} has no label map; expected one for each image")
    alone = [
        BadFile(str(path), f"it has no label map annotations/{part}/{name}.png")
        for name, path in images.items()
        if name not in maps
    ]
    alone += [
        BadFile(str(path), f"the image images/{part}/{name}.jpg, which it is of, is missing")
        for name, path in maps.items()
        if name not in images
    ]
    return [(path, maps[name]) for name, path in images.items() if name in maps], alone


def _by_name(folder: Path) -> dict[str, Path]:
    """Image files by their path without ending."""
    found = [path for path in folder.rglob("*") if is_image_name(path.name) and not path.name.startswith(".")]
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(found)}


@dataclass(frozen=True, eq=False)
class _Seen:
    """What was seen of a label map."""

    size: Size
    counts: np.ndarray
    """Pixels of each stored number, as far as they go; empty where only the header was read."""


def _looked_at(
    paths: Sequence[Path], choice: DataConfig, progress: Progress | None, decode: bool
) -> tuple[dict[Path, _Seen], list[BadFile]]:
    """What the label maps hold, as thoroughly as ``choice.verify`` says or ``decode`` makes necessary."""
    if choice.verify == "none" and not decode:
        return {}, []
    look = _decoded if decode or choice.verify == "full" else _opened
    seen: dict[Path, _Seen] = {}
    bad: list[BadFile] = []
    for path, found in looked_through(paths, look, "checking label maps", progress):
        if isinstance(found, BadFile):
            bad.append(found)
        else:
            seen[path] = found
    return seen, bad


def _decoded(path: Path) -> _Seen | BadFile:
    try:
        stored = read_label_map(path)
    except UnreadableImage as error:
        return BadFile(error.name, error.reason)
    return _Seen((stored.shape[0], stored.shape[1]), np.bincount(stored.ravel()))


def _opened(path: Path) -> _Seen | BadFile:
    try:
        return _Seen(read_size(path), np.zeros(0, np.int64))
    except UnreadableImage as error:
        return BadFile(error.name, error.reason)


def _summed(maps: Iterable[_Seen]) -> np.ndarray:
    """Pixels of each number over all label maps."""
    total = np.zeros(_STORED, np.int64)
    for seen in maps:
        total[: len(seen.counts)] += seen.counts
    return total


def _mismatched(pairs: list[Pair], sizes: dict[Path, Size], maps: dict[Path, _Seen], labels: Labels) -> list[BadFile]:
    """Label maps of another size than their image, or with numbers that mean nothing."""
    bad: list[BadFile] = []
    for image, label_map in pairs:
        seen = maps.get(label_map)
        if seen is None:
            continue
        if image in sizes and sizes[image] != seen.size:
            bad.append(BadFile(str(image), _other_size(label_map, seen.size, sizes[image])))
        try:
            labels.of(np.flatnonzero(seen.counts))
        except ValueError as error:
            bad.append(BadFile(str(label_map), str(error)))
    return bad


def _other_size(label_map: Path, size: Size, image: Size) -> str:
    return f"its label map {label_map} has {size[1]} × {size[0]} pixels, the image {image[1]} × {image[0]}"


def _part(pairs: list[Pair], labels: Labels, choice: DataConfig) -> LabelMapDataset:
    images, maps = tuple(image for image, _ in pairs), tuple(label_map for _, label_map in pairs)
    return LabelMapDataset(images, maps, labels, skips_bad=choice.on_bad_image == "skip")


def _check_labelled(root: Path, parts: list[list[Pair]], maps: dict[Path, _Seen], labels: Labels) -> None:
    """Refuse a part without a pixel that has a class, as far as pixels were looked at."""
    for pairs in parts:
        if not pairs:
            raise DataError(f"{root}: no usable image is left in a part; expected at least one")
        stored = np.flatnonzero(_summed(maps[label_map] for _, label_map in pairs if label_map in maps))
        if len(stored) and (labels.of(stored) == IGNORED).all():
            where = pairs[0][1].parent
            raise DataError(f"{where}: every pixel of every label map is ignored; expected some with a class")


def _class_names(root: Path, choice: DataConfig) -> tuple[str, ...] | None:
    """A name for each label, from the files that may say them; None where there is none."""
    for file, read in ((root / "classes.tsv", _tsv_names), (root / "objectInfo150.txt", _ade20k_names)):
        if file.is_file():
            try:
                names = read(file)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{file} cannot be read ({type(error).__name__}: {error}); expected columns with tabs between "
                    "them, 'label' (as stored in the label maps) and 'name'"
                ) from None
            return _in_order(names, choice, file)
    return None


def _tsv_names(file: Path) -> dict[int, str]:
    with file.open(encoding="utf-8", newline="") as lines:
        return {int(row["label"]): row["name"] for row in csv.DictReader(lines, delimiter="\t")}


def _ade20k_names(file: Path) -> dict[int, str]:
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", skipinitialspace=True)
        return {int(row["Idx"]): row["Name"].strip() for row in rows}


def _in_order(names: dict[int, str], choice: DataConfig, file: Path) -> tuple[str, ...]:
    """Names by label, of those that are not ignored; a label between others that has none gets its number."""
    first = int(choice.reduce_zero_label)
    kept = {stored - first: name for stored, name in names.items() if stored >= first and stored != choice.ignore_label}
    if not kept or min(names) < 0:
        raise DataError(f"{file} names no class; expected labels from {first} on")
    return tuple(kept.get(label, _number(label, choice)) for label in range(max(kept) + 1))


def _numbered(counts: np.ndarray, choice: DataConfig) -> tuple[str, ...]:
    """Names for as many classes as the label maps show."""
    first = int(choice.reduce_zero_label)
    shown = [int(stored) for stored in np.flatnonzero(counts) if stored >= first and stored != choice.ignore_label]
    if not shown:
        raise DataError(f"{choice.source}: every pixel of every label map is ignored; expected some with a class")
    return tuple(_number(label, choice) for label in range(max(shown) - first + 1))


def _number(label: int, choice: DataConfig) -> str:
    return f"class {label + int(choice.reduce_zero_label)}"
