"""A folder of images in, ``ImageSplits`` out: a folder per class, below ``train/`` and ``val/`` or alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..recipe import DataConfig
from .decode import is_image_name
from .imagenet import is_imagenet_validation, unsorted_message
from .sets import BadFile, ImageFileDataset, ImageSplits, Progress, hold_out
from .verify import look_at, refuse

_TRAIN_NAMES = ("train", "training")
_VAL_NAMES = ("val", "validation", "valid", "test")
_NOT_DATA = {"__MACOSX", "lost+found"}


@dataclass(frozen=True)
class Part:
    """One listed folder of class folders."""

    folder: Path
    files: dict[str, list[Path]]
    """Image files by class, both in sorted order."""
    strays: list[Path]
    """Image files directly in the folder, which have no class."""

    @property
    def labeled(self) -> dict[str, list[Path]]:
        """The classes that have images."""
        return {name: paths for name, paths in self.files.items() if paths}


def open_folder(root: Path, choice: DataConfig, progress: Progress | None = None) -> ImageSplits:
    """The images below ``root``; raises ``DataError`` where the folder is not laid out as a data set."""
    train_folder, val_folder = _parts(root)
    train = _listed(train_folder)
    val = _listed(val_folder) if val_folder else None
    _check_training(train, root)
    if val:
        _check_validation(val, train, choice)
    classes = tuple(train.files)
    files, labels = _flattened(train, classes)
    val_files, val_labels = _flattened(val, classes) if val else ([], [])

    strays = train.strays + (val.strays if val else [])
    bad = [BadFile(str(path), "it lies beside the class folders, so its class is not known") for path in strays]
    sizes, unreadable = look_at(files + val_files, choice, progress)
    bad += unreadable
    if choice.on_bad_image == "refuse":
        refuse(bad, among=len(files) + len(val_files) + len(strays))

    left_out = {image.path for image in bad}
    files, labels = _without(left_out, files, labels)
    val_files, val_labels = _without(left_out, val_files, val_labels)
    _check_remaining(labels, classes, train.folder)
    if val is None:
        kept, held = hold_out(labels, classes, choice.val_fraction, choice.split_seed)
        val_files, val_labels = [files[i] for i in held], [labels[i] for i in held]
        files, labels = [files[i] for i in kept], [labels[i] for i in kept]
    if not val_files:
        raise DataError(
            f"{root} leaves no image to evaluate on; expected two images or more in a class, or a val folder"
        )

    skips_bad = choice.on_bad_image == "skip"
    shapes = set(sizes.values())
    return ImageSplits(
        train=ImageFileDataset(files, labels, skips_bad=skips_bad),
        val=ImageFileDataset(val_files, val_labels, skips_bad=skips_bad),
        classes=classes,
        channels=3,
        native_size=shapes.pop() if len(shapes) == 1 else None,
        skipped=tuple(bad),
        held_out_here=val is None,
    )


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            shown = [e for e in entries if not e.name.startswith(".") and e.name not in _NOT_DATA]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None
    return sorted(shown, key=lambda entry: entry.name)


def _parts(root: Path) -> tuple[Path, Path | None]:
    """The folder to train on and, where there is one, the folder to evaluate on."""
    folders = {entry.name.lower(): Path(entry.path) for entry in _visible(root) if entry.is_dir()}
    train = next((folders[name] for name in _TRAIN_NAMES if name in folders), None)
    vals = [folders[name] for name in _VAL_NAMES if name in folders]
    if train is not None and (vals or _has_folders(train)):
        # a flat test folder beside class folders to train on is a competition's: its labels are not public
        vals = [val for val in vals if val.name.lower() != "test" or _has_folders(val)]
        return train, vals[0] if vals else None
    if vals and len(folders) == len(vals):
        raise DataError(
            f"{root} has {vals[0].name}/ but no train/. Expected train/ and val/ with a folder per class in "
            "each, or a folder per class"
        )
    return root, None


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() for entry in _visible(folder))


def _listed(folder: Path) -> Part:
    entries = _visible(folder)
    return Part(
        folder=folder,
        files={entry.name: _below(Path(entry.path)) for entry in entries if entry.is_dir()},
        strays=[Path(entry.path) for entry in entries if entry.is_file() and is_image_name(entry.name)],
    )


def _below(folder: Path) -> list[Path]:
    """All image files under a class folder, links followed, in sorted order."""
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in _NOT_DATA)
        found += [Path(place, n) for n in names if is_image_name(n) and not n.startswith(".")]
    return sorted(found)


def _check_training(train: Part, root: Path) -> None:
    folder, classes = train.folder, list(train.files)
    if not classes and train.strays:
        raise DataError(
            f"{folder} has {len(train.strays)} images such as {train.strays[0].name} directly in it, so "
            f"their classes are not known. Expected a folder per class: {folder}/cat/..., {folder}/dog/..."
        )
    if not train.labeled:
        raise DataError(f"{folder} has no images. Expected a folder per class with images in it{_deeper(root)}")
    empty = [name for name in classes if not train.files[name]]
    if empty:
        raise DataError(f"{_named(empty)} in {folder}: a class folder without images. Fill or remove it{_deeper(root)}")
    if len(classes) == 1:
        raise DataError(f"{folder} has one class, {classes[0]!r}; expected a folder for each of several{_deeper(root)}")


def _check_validation(val: Part, train: Part, choice: DataConfig) -> None:
    unsorted = [path.name for path in val.strays if is_imagenet_validation(path.name)]
    if unsorted:
        raise DataError(unsorted_message(val.folder, len(unsorted), unsorted[0]))
    if not val.files and val.strays:
        first = next(iter(train.files))
        raise DataError(
            f"{val.folder} is not sorted into classes: {len(val.strays)} images such as "
            f"{val.strays[0].name} lie directly in it. Expected the class folders of {train.folder}, such as "
            f"{val.folder / first}/...; or move it away, and "
            f"{choice.val_fraction:.0%} of the training images are held out instead"
        )
    if not val.labeled:
        raise DataError(f"{val.folder} has no images. Expected a folder per class with images in it")
    unknown = [name for name in val.labeled if name not in train.files]
    missing = [name for name in train.files if name not in val.files]
    if unknown or missing:
        told = [f"{_named(unknown)} only in {val.folder.name}"] if unknown else []
        told += [f"{_named(missing)} only in {train.folder.name}"] if missing else []
        raise DataError(
            f"the class folders of {train.folder} and {val.folder} differ: {'; '.join(told)}. Expected the "
            "same names in both (a class that has nothing to evaluate on keeps an empty folder)"
        )


def _check_remaining(labels: list[int], classes: tuple[str, ...], folder: Path) -> None:
    gone = [name for label, name in enumerate(classes) if label not in set(labels)]
    if gone:
        raise DataError(f"{_named(gone)} in {folder}: no readable image is left in this class")


def _named(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _deeper(root: Path) -> str:
    """A hint when the data set lies a few folders further down, as archives unpack."""
    for pattern in ("*", "*/*", "*/*/*"):
        for folder in sorted(root.glob(pattern)):
            if any((folder / name).is_dir() for name in _TRAIN_NAMES):
                return f". Did you mean {folder}?"
    return ""


def _flattened(part: Part, classes: tuple[str, ...]) -> tuple[list[Path], list[int]]:
    pairs = [(path, label) for label, name in enumerate(classes) for path in part.files.get(name, [])]
    return [path for path, _ in pairs], [label for _, label in pairs]


def _without(left_out: set[str], files: list[Path], labels: list[int]) -> tuple[list[Path], list[int]]:
    kept = [(path, label) for path, label in zip(files, labels, strict=True) if str(path) not in left_out]
    return [path for path, _ in kept], [label for _, label in kept]
