"""A folder of images in, ``Splits`` out: a folder for each class, with or without ``train/`` and ``val/``; or none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..recipe import DataConfig
from .dataset import BadFile, Progress, Sample, Splits, hold_out, hold_out_by_class
from .decode import Mode, is_image_name, read_image
from .imagenet import is_imagenet_validation, unsorted_message
from .verify import Size, refuse_bad_files, verify_images

_TRAIN_NAMES = ("train", "training")
_VAL_NAMES = ("val", "validation", "valid", "test")
_IGNORED_FOLDERS = {"__MACOSX", "lost+found"}  # left by macOS's archives and by file systems


@dataclass
class LabeledImageFiles:
    """Image files with a class each, decoded when they are loaded."""

    paths: list[Path]
    labels: list[int]
    mode: Mode = "RGB"
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Sample[int]:
        """The image, upright, and its class; raises ``UnreadableImage``."""
        return Sample(read_image(self.paths[index], self.mode), self.labels[index])

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])


@dataclass
class ImageFiles:
    """Image files without labels, decoded when they are loaded."""

    paths: list[Path]
    mode: Mode = "RGB"
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Sample[None]:
        """The image, upright; raises ``UnreadableImage``."""
        return Sample(read_image(self.paths[index], self.mode), None)

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.paths[index])


@dataclass(frozen=True)
class ClassFolders:
    """One part of a dataset: a folder of class folders, listed."""

    folder: Path
    files: dict[str, list[Path]]
    """Image files by class, both in sorted order."""
    strays: list[Path]
    """Image files directly in the folder, which have no class."""

    @property
    def nonempty(self) -> list[str]:
        """The classes that have images."""
        return [name for name, paths in self.files.items() if paths]


def open_image_folder(root: Path, config: DataConfig, progress: Progress | None = None) -> Splits[int]:
    """The images below ``root``, where the folders say their classes.

    Raises ``DataError`` where the folder is not laid out as a dataset.
    """
    train_folder, val_folder = _part_folders(root)
    train = _list_classes(train_folder)
    val = _list_classes(val_folder) if val_folder else None
    _check_training(train, root)
    if val:
        _check_validation(val, train, config)
    classes = tuple(train.files)
    pairs = _labeled_files(train, classes)
    val_pairs = _labeled_files(val, classes) if val else []

    strays = train.strays + (val.strays if val else [])
    bad = [BadFile(str(path), "it is not in a class folder, so its class is not known") for path in strays]
    sizes, unreadable = verify_images([path for path, _ in pairs + val_pairs], config, progress)
    bad += unreadable
    total = len(pairs) + len(val_pairs) + len(strays)
    refuse_bad_files(bad, config, f"{len(bad)} of {total} image files cannot be used")

    left_out = {file.path for file in bad}
    pairs = [pair for pair in pairs if str(pair[0]) not in left_out]
    val_pairs = [pair for pair in val_pairs if str(pair[0]) not in left_out]
    remaining = {label for _, label in pairs}
    empty = [name for label, name in enumerate(classes) if label not in remaining]
    if empty:
        raise DataError(f"{_quoted(empty)} in {train.folder}: no readable image is left in this class")
    if val is None:
        labels = [label for _, label in pairs]
        kept, held = hold_out_by_class(labels, classes, config.val_fraction, config.split_seed)
        pairs, val_pairs = [pairs[i] for i in kept], [pairs[i] for i in held]
    if not val_pairs:
        raise DataError(
            f"{root} leaves no image to evaluate on; expected two images or more in a class, or a val folder"
        )

    def dataset(pairs: list[tuple[Path, int]]) -> LabeledImageFiles:
        skips_bad = config.on_bad_image == "skip"
        return LabeledImageFiles([path for path, _ in pairs], [label for _, label in pairs], skips_bad=skips_bad)

    return Splits(
        train=dataset(pairs),
        val=dataset(val_pairs),
        classes=classes,
        native_size=_shared_size(sizes),
        skipped=tuple(bad),
        held_out_here=val is None,
    )


def open_image_files(root: Path, config: DataConfig, progress: Progress | None = None) -> Splits[None]:
    """All images below ``root``, flat or nested, without labels.

    ``train/`` and ``val/`` are the two parts where ``root`` has both; otherwise ``config.val_fraction`` of all images
    is held out. Raises ``DataError`` where there are no images.
    """
    folders = {entry.name.lower(): Path(entry.path) for entry in _visible(root) if entry.is_dir()}
    train, val = (next((folders[n] for n in names if n in folders), None) for names in (_TRAIN_NAMES, _VAL_NAMES))
    parts = [_images_below(train), _images_below(val)] if train and val else [_images_below(root)]
    files = [path for part in parts for path in part]
    if not files:
        raise DataError(f"{root} has no images; expected image files in it or in folders below")
    sizes, bad = verify_images(files, config, progress)
    refuse_bad_files(bad, config, f"{len(bad)} of {len(files)} image files cannot be used")
    left_out = {file.path for file in bad}
    parts = [[path for path in part if str(path) not in left_out] for part in parts]
    if len(parts) == 1:
        kept, held = hold_out(len(parts[0]), config)
        parts = [[parts[0][i] for i in kept], [parts[0][i] for i in held]]
    skips_bad = config.on_bad_image == "skip"
    return Splits(
        train=ImageFiles(parts[0], skips_bad=skips_bad),
        val=ImageFiles(parts[1], skips_bad=skips_bad),
        native_size=_shared_size(sizes),
        skipped=tuple(bad),
        held_out_here=not (train and val),
    )


def _shared_size(sizes: dict[Path, Size]) -> Size | None:
    shapes = set(sizes.values())
    return shapes.pop() if len(shapes) == 1 else None


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """Entries in sorted order, because the order of a file system differs between machines."""
    try:
        with os.scandir(folder) as entries:
            visible = [e for e in entries if not e.name.startswith(".") and e.name not in _IGNORED_FOLDERS]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from None
    return sorted(visible, key=lambda entry: entry.name)


def _part_folders(root: Path) -> tuple[Path, Path | None]:
    """The folder to train on and, where there is one, the folder to evaluate on."""
    folders = {entry.name.lower(): Path(entry.path) for entry in _visible(root) if entry.is_dir()}
    train = next((folders[name] for name in _TRAIN_NAMES if name in folders), None)
    vals = [folders[name] for name in _VAL_NAMES if name in folders]
    if train is not None and (vals or _has_folders(train)):
        # a test folder without class folders comes from a competition, whose labels are not public
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


def _list_classes(folder: Path) -> ClassFolders:
    entries = _visible(folder)
    return ClassFolders(
        folder=folder,
        files={entry.name: _images_below(Path(entry.path)) for entry in entries if entry.is_dir()},
        strays=[Path(entry.path) for entry in entries if entry.is_file() and is_image_name(entry.name)],
    )


def _images_below(folder: Path) -> list[Path]:
    """All image files below a folder, links followed, in sorted order."""
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above would be followed forever
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in _IGNORED_FOLDERS)
        found += [Path(place, n) for n in names if is_image_name(n) and not n.startswith(".")]
    return sorted(found)


def _check_training(train: ClassFolders, root: Path) -> None:
    folder, classes = train.folder, list(train.files)
    if not classes and train.strays:
        raise DataError(
            f"{folder} has {len(train.strays)} images such as {train.strays[0].name} directly in it, so "
            f"their classes are not known. Expected a folder per class: {folder}/cat/..., {folder}/dog/..."
        )
    if not train.nonempty:
        raise DataError(f"{folder} has no images. Expected a folder per class with images in it{_deeper_hint(root)}")
    empty = [name for name in classes if not train.files[name]]
    if empty:
        raise DataError(
            f"{_quoted(empty)} in {folder}: a class folder without images. Fill or remove it{_deeper_hint(root)}"
        )
    if len(classes) == 1:
        raise DataError(
            f"{folder} has one class, {classes[0]!r}; expected a folder for each of several{_deeper_hint(root)}"
        )


def _check_validation(val: ClassFolders, train: ClassFolders, config: DataConfig) -> None:
    unsorted = [path.name for path in val.strays if is_imagenet_validation(path.name)]
    if unsorted:
        raise DataError(unsorted_message(val.folder, len(unsorted), unsorted[0]))
    if not val.files and val.strays:
        first = next(iter(train.files))
        raise DataError(
            f"{val.folder} is not sorted into classes: {len(val.strays)} images such as "
            f"{val.strays[0].name} lie directly in it. Expected the class folders of {train.folder}, such as "
            f"{val.folder / first}/...; or move it away, and "
            f"{config.val_fraction:.0%} of the training images are held out instead"
        )
    if not val.nonempty:
        raise DataError(f"{val.folder} has no images. Expected a folder per class with images in it")
    unknown = [name for name in val.nonempty if name not in train.files]
    missing = [name for name in train.files if name not in val.files]
    if unknown or missing:
        differences = [f"{_quoted(unknown)} only in {val.folder.name}"] if unknown else []
        differences += [f"{_quoted(missing)} only in {train.folder.name}"] if missing else []
        raise DataError(
            f"the class folders of {train.folder} and {val.folder} differ: {'; '.join(differences)}. Expected the "
            "same names in both (for a class without validation images keep an empty folder)"
        )


def _quoted(names: list[str]) -> str:
    first = ", ".join(repr(name) for name in names[:5])
    return first if len(names) <= 5 else f"{first} and {len(names) - 5} more"


def _deeper_hint(root: Path) -> str:
    """A hint where the dataset lies a few folders deeper, as some archives unpack."""
    for pattern in ("*", "*/*", "*/*/*"):
        for folder in sorted(root.glob(pattern)):
            if any((folder / name).is_dir() for name in _TRAIN_NAMES):
                return f". Did you mean {folder}?"
    return ""


def _labeled_files(part: ClassFolders, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    return [(path, label) for label, name in enumerate(classes) for path in part.files.get(name, [])]
