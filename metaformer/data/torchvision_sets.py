"""torchvision's classification data sets by name: how their parts are asked for, in one visible table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import DataError
from ..recipe import DataConfig
from .decode import Mode, UnreadableImage, as_mode
from .sets import ImageSplits, hold_out


@dataclass(frozen=True)
class Published:
    """How one data set is asked for its parts."""

    train: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of torchvision's class for the training part."""
    val: Mapping[str, Any] | None = None
    """The same for the part to evaluate on; None where none is published and some is held out by a seed."""
    channels: int = 3
    size: tuple[int, int] | None = None
    """Height and width where all images share them."""


_FLAG = ({"train": True}, {"train": False})
_TRAIN_TEST = ({"split": "train"}, {"split": "test"})
_TRAIN_VAL = ({"split": "train"}, {"split": "val"})

PUBLISHED: dict[str, Published] = {
    "Caltech101": Published(),
    "Caltech256": Published(),
    "CIFAR10": Published(*_FLAG, size=(32, 32)),
    "CIFAR100": Published(*_FLAG, size=(32, 32)),
    "Country211": Published({"split": "train"}, {"split": "valid"}),
    "DTD": Published(*_TRAIN_VAL),
    "EuroSAT": Published(size=(64, 64)),
    "FashionMNIST": Published(*_FLAG, channels=1, size=(28, 28)),
    "FGVCAircraft": Published(*_TRAIN_VAL),
    "Flowers102": Published(*_TRAIN_VAL),
    "Food101": Published(*_TRAIN_TEST),
    "GTSRB": Published(*_TRAIN_TEST),
    "Imagenette": Published(*_TRAIN_VAL),
    "KMNIST": Published(*_FLAG, channels=1, size=(28, 28)),
    "MNIST": Published(*_FLAG, channels=1, size=(28, 28)),
    "OxfordIIITPet": Published({"split": "trainval"}, {"split": "test"}),
    "RenderedSST2": Published(*_TRAIN_VAL),
    "StanfordCars": Published(*_TRAIN_TEST),
    "STL10": Published(*_TRAIN_TEST, size=(96, 96)),
    "SUN397": Published(),
    "SVHN": Published(*_TRAIN_TEST, size=(32, 32)),
    "USPS": Published(*_FLAG, channels=1, size=(16, 16)),
}
"""Keyed by the name of torchvision's class."""


def published_name(source: str) -> str | None:
    """torchvision's spelling of a data set's name, read without regard to case, hyphens and underscores."""
    spelled = {_bare(name): name for name in PUBLISHED}
    return spelled.get(_bare(source.removeprefix("torchvision:")))


def nearest_name(asked: str, others: Iterable[str] = ()) -> str:
    """A did-you-mean sentence over the table (and ``others``) that does not mind upper and lower case."""
    known = {name.lower(): name for name in [*others, *PUBLISHED]}
    near = [known[match] for match in get_close_matches(asked.lower(), known, n=3)]
    guess = f"Did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
    return f"{guess}Known by name: digits, {', '.join(sorted(PUBLISHED, key=str.lower))}"


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


@dataclass
class TorchvisionDataset:
    """Part of a torchvision data set, seen as ``Images``."""

    dataset: Any
    labels: list[int]
    title: str
    mode: Mode
    numbers: list[int]
    """The position in ``dataset`` of each image."""
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.numbers)

    def load(self, index: int) -> Image.Image:
        """The image; raises ``UnreadableImage`` where its file is broken."""
        try:
            return as_mode(self.dataset[self.numbers[index]][0], self.mode)
        except Exception as error:  # Pillow's decoders raise whatever a broken file provokes
            raise UnreadableImage(self.name(index), str(error)) from None

    def name(self, index: int) -> str:
        """Such as ``CIFAR10/train/17``."""
        return f"{self.title}/{self.numbers[index]}"


def open_published(choice: DataConfig) -> ImageSplits:
    """A torchvision data set; raises ``DataError`` where it is unknown, absent or broken."""
    name = published_name(choice.source)
    if name is None:
        asked = choice.source.removeprefix("torchvision:")
        raise DataError(f"{asked!r} is no torchvision data set that is known here. {nearest_name(asked)}")
    row = PUBLISHED[name]
    dataset = _constructed(name, row.train, choice)
    train, labels = _whole(dataset, f"{name}/train", row, choice)
    classes = _classes(dataset, labels)
    if row.val is not None:
        val, _ = _whole(_constructed(name, row.val, choice), f"{name}/val", row, choice)
    else:
        kept, held = hold_out(labels, classes, choice.val_fraction, choice.split_seed)
        train, val = _chosen(train, kept), _chosen(train, held)
    return ImageSplits(train, val, classes, channels=row.channels, native_size=row.size)


def _constructed(name: str, arguments: Mapping[str, Any], choice: DataConfig) -> Any:
    from torchvision import datasets

    root = Path(choice.root).expanduser()
    build = getattr(datasets, name)
    try:  # first as it lies there: asking for a download again would fetch or unpack some sets twice
        return build(str(root), **arguments)
    except Exception as error:  # a missing or broken set raises whatever its reader stumbles over
        if not choice.download:
            raise DataError(
                f"{name} cannot be read from {root}: {_one_line(error)}. Add --data.download to download it "
                "there, or name the folder that has it with --data.root"
            ) from None
    try:
        root.mkdir(parents=True, exist_ok=True)
        return build(str(root), download=True, **arguments)
    except Exception as error:  # no network, no space, a moved address, a data set that is no longer offered
        raise DataError(f"{name} could not be downloaded to {root}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removesuffix(" You can use download=True to download it").rstrip(".")


def _whole(dataset: Any, title: str, row: Published, choice: DataConfig) -> tuple[TorchvisionDataset, list[int]]:
    labels = _labels(dataset)
    mode: Mode = "L" if row.channels == 1 else "RGB"
    skips_bad = choice.on_bad_image == "skip"
    return TorchvisionDataset(dataset, labels, title, mode, list(range(len(labels))), skips_bad), labels


def _chosen(images: TorchvisionDataset, positions: list[int]) -> TorchvisionDataset:
    labels = [images.labels[i] for i in positions]
    return TorchvisionDataset(images.dataset, labels, images.title, images.mode, positions, images.skips_bad)


def _labels(dataset: Any) -> list[int]:
    """Labels without decoding an image: torchvision's classes keep them under one of these names."""
    for attribute in ("targets", "labels", "_labels", "y"):
        if hasattr(dataset, attribute):
            return [int(label) for label in getattr(dataset, attribute)]
    for attribute in ("samples", "_samples"):
        if hasattr(dataset, attribute):
            return [int(label) for _, label in getattr(dataset, attribute)]
    return [int(dataset[i][1]) for i in range(len(dataset))]


def _classes(dataset: Any, labels: list[int]) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    if names is None:  # house numbers and traffic signs have numbers only
        return tuple(str(label) for label in range(max(labels) + 1))
    return tuple(name if isinstance(name, str) else name[0] for name in names)
