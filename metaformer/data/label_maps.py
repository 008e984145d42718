"""A folder in ADE20K's layout in, ``Splits`` out: images with a class for each pixel.

``images/training/NAME.jpg`` beside ``annotations/training/NAME.png``, and the same below ``validation`` (or ``train``
and ``val``). The stored numbers of a label map become labels 0 to K - 1, and 255 where they are ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..recipe import DataConfig
from ..types import IGNORED
from .dataset import BadFile, Progress, Sample, Splits, hold_out
from .decode import UnreadableImage, is_image_name, read_image, read_label_map, read_size
from .verify import Size, check_files, refuse_bad_files, source_folder, verify_images

EXPECTED_LAYOUT = "images/training/*.jpg and annotations/training/*.png (ADE20K's layout)"

_TRAIN_NAMES = ("training", "train")
_VAL_NAMES = ("validation", "val")
_STORED = 2**16  # a label map has 8 or 16 bits
_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class LabelEncoding:
    """What the stored numbers of label maps mean."""

    classes: tuple[str, ...]
    """A name for each label."""
    reduce_zero_label: bool
    ignore_label: int
    _table: np.ndarray = field(init=False)
    """(65536,) int64: the label of each stored number. One lookup is faster than a comparison for each class."""

    def __post_init__(self) -> None:
        if len(self.classes) > IGNORED:
            raise DataError(f"expected at most {IGNORED} classes in label maps, got {len(self.classes)}")
        table = np.full(_STORED, _UNKNOWN, np.int64)
        first = int(self.reduce_zero_label)
        table[first : first + len(self.classes)] = np.arange(len(self.classes))
        if self.reduce_zero_label:
            table[0] = IGNORED
        if 0 <= self.ignore_label < _STORED:  # last, because it may lie among the classes
            table[self.ignore_label] = IGNORED
        object.__setattr__(self, "_table", table)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Labels of stored numbers, int64; raises ``ValueError`` for a number that has no meaning."""
        labels = self._table[stored.clip(0, _STORED - 1)]
        if (labels == _UNKNOWN).any():
            unknown, first = np.unique(stored[labels == _UNKNOWN]), int(self.reduce_zero_label)
            listed = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            raise ValueError(
                f"it has the label {listed}; expected {'0 (ignored), ' if first else ''}{first} to "
                f"{first + len(self.classes) - 1} for {len(self.classes)} classes, or {self.ignore_label} (ignored)"
            )
        return labels


@dataclass(frozen=True, eq=False)
class LabelMapDataset:
    """Images with their label maps, in ADE20K's layout. ``len`` is its number of images."""

    paths: tuple[Path, ...]
    maps: tuple[Path, ...]
    encoding: LabelEncoding
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The image's path."""
        return str(self.paths[index])

    def load(self, index: int) -> Sample[Tensor]:
        """The image, upright ``RGB``, and its label map, (H, W) int64; raises ``UnreadableImage``."""
        image = read_image(self.paths[index])
        label_map = self.label_map(index)
        if label_map.shape != (image.height, image.width):
            size = (label_map.shape[0], label_map.shape[1])
            raise UnreadableImage(self.name(index), _size_mismatch(self.maps[index], size, (image.height, image.width)))
        return Sample(image, label_map)

    def label_map(self, index: int) -> Tensor:
        """(H, W) int64 without reading the image; raises ``UnreadableImage``."""
        stored = read_label_map(self.maps[index])
        try:
            return torch.from_numpy(self.encoding.decode(stored))
        except ValueError as error:
            raise UnreadableImage(str(self.maps[index]), str(error)) from None

    def subset(self, indices: Sequence[int]) -> LabelMapDataset:
        """Some of the images as a dataset of their own."""
        paths, maps = tuple(self.paths[i] for i in indices), tuple(self.maps[i] for i in indices)
        return LabelMapDataset(paths, maps, self.encoding, self.skips_bad)


def is_label_map_folder(root: Path) -> bool:
    """Whether a folder is in ADE20K's layout."""
    return any((root / "images" / name).is_dir() and (root / "annotations" / name).is_dir() for name in _TRAIN_NAMES)


def open_label_maps(config: DataConfig, progress: Progress | None = None) -> Splits[Tensor]:
    """The images and label maps below ``config.source``.

    Classes are those of ``classes.tsv`` (columns ``label``, as stored, and ``name``) or of ADE20K's own
    ``objectInfo150.txt``; without either they are numbered up to the largest label that occurs. Faults are refused, or
    left out with ``config.on_bad_image`` "skip". Without a validation part ``config.val_fraction`` is held out.

    Raises:
        DataError: the folder is not in this layout, a part is empty, no pixel has a class, or there are faults.
    """
    root = source_folder(config, EXPECTED_LAYOUT)
    parts = [_pairs(root, name) for name in _part_names(root)]
    bad = [fault for _, faults in parts for fault in faults]
    pairs = [pair for found, _ in parts for pair in found]
    names = _class_names(root, config)
    sizes, unreadable = verify_images([image for image, _ in pairs], config, progress)
    # without names the pixels must be counted whatever config.verify says, because they are the only source of classes
    maps, unreadable_maps = _verify_maps([label_map for _, label_map in pairs], config, progress, decode=names is None)
    bad += unreadable + unreadable_maps
    classes = names or _numbered_names(_total_counts(maps.values()), config)
    encoding = LabelEncoding(classes, config.reduce_zero_label, config.ignore_label)
    bad += _mismatches(pairs, sizes, maps, encoding)
    refuse_bad_files(bad, config, f"{len(bad)} fault{'s' if len(bad) > 1 else ''} in {root}")

    left_out = {fault.path for fault in bad}
    kept = [[pair for pair in found if not left_out & {str(pair[0]), str(pair[1])}] for found, _ in parts]
    skips_bad = config.on_bad_image == "skip"
    opened = [
        LabelMapDataset(
            tuple(image for image, _ in part), tuple(label_map for _, label_map in part), encoding, skips_bad
        )
        for part in kept
    ]
    _check_labeled(root, kept, maps, encoding)
    if len(opened) == 1:
        train, val = hold_out(len(opened[0]), config)
        opened = [opened[0].subset(train), opened[0].subset(val)]
    return Splits(
        train=opened[0],
        val=opened[1],
        classes=classes,
        skipped=tuple(bad),
        held_out_here=len(parts) == 1,
    )


def _part_names(root: Path) -> list[str]:
    """The folder to train on and, where there is one, the folder to evaluate on."""
    train, val = (
        next((name for name in names if (root / "images" / name).is_dir()), None)
        for names in (_TRAIN_NAMES, _VAL_NAMES)
    )
    if train is None:
        raise DataError(f"{root} has no images/training. Expected {EXPECTED_LAYOUT}")
    return [train] if val is None else [train, val]


Pair = tuple[Path, Path]
"""An image and its label map."""


def _pairs(root: Path, part: str) -> tuple[list[Pair], list[BadFile]]:
    """The images of a part with their label maps, sorted by name, and the files without a counterpart."""
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
        BadFile(str(path), f"its image images/{part}/{name}.jpg is missing")
        for name, path in maps.items()
        if name not in images
    ]
    return [(path, maps[name]) for name, path in images.items() if name in maps], alone


def _by_name(folder: Path) -> dict[str, Path]:
    """Image files by their path without suffix, because images and label maps have different ones."""
    found = [path for path in folder.rglob("*") if is_image_name(path.name) and not path.name.startswith(".")]
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(found)}


@dataclass(frozen=True, eq=False)
class _MapContent:
    """What was read of a label map."""

    size: Size
    counts: np.ndarray
    """Pixels of each stored number, up to the largest; empty where only the header was read."""


def _verify_maps(
    paths: Sequence[Path], config: DataConfig, progress: Progress | None, decode: bool
) -> tuple[dict[Path, _MapContent], list[BadFile]]:
    """The content of the label maps, read as far as ``config.verify`` says or ``decode`` requires."""
    if config.verify == "none" and not decode:
        return {}, []
    check = _decoded_content if decode or config.verify == "full" else _header_content
    content: dict[Path, _MapContent] = {}
    bad: list[BadFile] = []
    for path, found in check_files(paths, check, "checking label maps", progress):
        if isinstance(found, BadFile):
            bad.append(found)
        else:
            content[path] = found
    return content, bad


def _decoded_content(path: Path) -> _MapContent:
    stored = read_label_map(path)
    return _MapContent((stored.shape[0], stored.shape[1]), np.bincount(stored.ravel()))


def _header_content(path: Path) -> _MapContent:
    return _MapContent(read_size(path), np.zeros(0, np.int64))


def _total_counts(maps: Iterable[_MapContent]) -> np.ndarray:
    """Pixels of each stored number over all label maps."""
    total = np.zeros(_STORED, np.int64)
    for content in maps:
        total[: len(content.counts)] += content.counts
    return total


def _mismatches(
    pairs: list[Pair], sizes: dict[Path, Size], maps: dict[Path, _MapContent], encoding: LabelEncoding
) -> list[BadFile]:
    """Label maps of another size than their image, or with numbers that have no meaning."""
    bad: list[BadFile] = []
    for image, label_map in pairs:
        content = maps.get(label_map)
        if content is None:
            continue
        if image in sizes and sizes[image] != content.size:
            bad.append(BadFile(str(image), _size_mismatch(label_map, content.size, sizes[image])))
        try:
            encoding.decode(np.flatnonzero(content.counts))
        except ValueError as error:
            bad.append(BadFile(str(label_map), str(error)))
    return bad


def _size_mismatch(label_map: Path, size: Size, image: Size) -> str:
    return f"its label map {label_map} has {size[1]} × {size[0]} pixels, the image {image[1]} × {image[0]}"


def _check_labeled(root: Path, parts: list[list[Pair]], maps: dict[Path, _MapContent], encoding: LabelEncoding) -> None:
    """Refuse a part in which no pixel has a class, where pixels were read."""
    for pairs in parts:
        if not pairs:
            raise DataError(f"{root}: no usable image is left in a part; expected at least one")
        stored = np.flatnonzero(_total_counts(maps[label_map] for _, label_map in pairs if label_map in maps))
        if len(stored) and (encoding.decode(stored) == IGNORED).all():
            folder = pairs[0][1].parent
            raise DataError(f"{folder}: every pixel of every label map is ignored; expected some with a class")


def _class_names(root: Path, config: DataConfig) -> tuple[str, ...] | None:
    """A name for each label, from the files that may have them; None where there is no such file."""
    for file, read in ((root / "classes.tsv", _tsv_names), (root / "objectInfo150.txt", _ade20k_names)):
        if file.is_file():
            try:
                names = read(file)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{file} cannot be read ({type(error).__name__}: {error}); expected columns separated by tabs, "
                    "'label' (as stored in the label maps) and 'name'"
                ) from None
            return _by_label(names, config, file)
    return None


def _tsv_names(file: Path) -> dict[int, str]:
    with file.open(encoding="utf-8", newline="") as lines:
        return {int(row["label"]): row["name"] for row in csv.DictReader(lines, delimiter="\t")}


def _ade20k_names(file: Path) -> dict[int, str]:
    with file.open(encoding="utf-8", newline="") as lines:
        # ADE20K pads its columns with spaces after the tabs
        rows = csv.DictReader(lines, delimiter="\t", skipinitialspace=True)
        return {int(row["Idx"]): row["Name"].strip() for row in rows}


def _by_label(names: dict[int, str], config: DataConfig, file: Path) -> tuple[str, ...]:
    """Names in the order of their labels, without the ignored ones; a label that has none in between is numbered."""
    first = int(config.reduce_zero_label)
    kept = {stored - first: name for stored, name in names.items() if stored >= first and stored != config.ignore_label}
    if not kept or min(names) < 0:
        raise DataError(f"{file} names no class; expected labels from {first} on")
    return tuple(kept.get(label, f"class {label + first}") for label in range(max(kept) + 1))


def _numbered_names(counts: np.ndarray, config: DataConfig) -> tuple[str, ...]:
    """Names for the classes up to the largest number in the label maps."""
    first = int(config.reduce_zero_label)
    occurring = [int(stored) for stored in np.flatnonzero(counts) if stored >= first and stored != config.ignore_label]
    if not occurring:
        raise DataError(f"{config.source}: every pixel of every label map is ignored; expected some with a class")
    return tuple(f"class {stored}" for stored in range(first, max(occurring) + 1))
