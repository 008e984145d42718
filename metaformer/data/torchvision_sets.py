"""torchvision's datasets of images with a class each, by name: one table of how to ask for their parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..recipe import DataConfig
from .dataset import Sample, Splits, hold_out_by_class
from .decode import Mode, UnreadableImage, as_mode


@dataclass(frozen=True)
class TorchvisionParts:
    """How to ask a class of torchvision for its parts."""

    train: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of torchvision's class for the training part."""
    val: Mapping[str, Any] | None = None
    """The same for the part to evaluate on; None where there is none and a random part is held out."""
    channels: int = 3
    size: tuple[int, int] | None = None
    """Height and width where all images share them."""


_FLAG = ({"train": True}, {"train": False})
_TRAIN_TEST = ({"split": "train"}, {"split": "test"})
_TRAIN_VAL = ({"split": "train"}, {"split": "val"})

TORCHVISION_SETS: dict[str, TorchvisionParts] = {
    "Caltech101": TorchvisionParts(),
    "Caltech256": TorchvisionParts(),
    "CIFAR10": TorchvisionParts(*_FLAG, size=(32, 32)),
    "CIFAR100": TorchvisionParts(*_FLAG, size=(32, 32)),
    "Country211": TorchvisionParts({"split": "train"}, {"split": "valid"}),
    "DTD": TorchvisionParts(*_TRAIN_VAL),
    "EuroSAT": TorchvisionParts(size=(64, 64)),
    "FashionMNIST": TorchvisionParts(*_FLAG, channels=1, size=(28, 28)),
    "FGVCAircraft": TorchvisionParts(*_TRAIN_VAL),
    "Flowers102": TorchvisionParts(*_TRAIN_VAL),
    "Food101": TorchvisionParts(*_TRAIN_TEST),
    "GTSRB": TorchvisionParts(*_TRAIN_TEST),
    "Imagenette": TorchvisionParts(*_TRAIN_VAL),
    "KMNIST": TorchvisionParts(*_FLAG, channels=1, size=(28, 28)),
    "MNIST": TorchvisionParts(*_FLAG, channels=1, size=(28, 28)),
    "OxfordIIITPet": TorchvisionParts({"split": "trainval"}, {"split": "test"}),
    "RenderedSST2": TorchvisionParts(*_TRAIN_VAL),
    "StanfordCars": TorchvisionParts(*_TRAIN_TEST),
    "STL10": TorchvisionParts(*_TRAIN_TEST, size=(96, 96)),
    "SUN397": TorchvisionParts(),
    "SVHN": TorchvisionParts(*_TRAIN_TEST, size=(32, 32)),
    "USPS": TorchvisionParts(*_FLAG, channels=1, size=(16, 16)),
}
"""Keyed by the name of torchvision's class."""


def torchvision_name(source: str) -> str | None:
    """torchvision's spelling of a name, which may differ in case, hyphens and underscores; None where it is unknown."""
    spelled = {_bare(name): name for name in TORCHVISION_SETS}
    return spelled.get(_bare(source.removeprefix("torchvision:")))


def nearest_name(asked: str, others: Iterable[str] = ()) -> str:
    """A did-you-mean sentence over the table (and ``others``) that ignores case."""
    known = {name.lower(): name for name in [*others, *TORCHVISION_SETS]}
    near = [known[match] for match in get_close_matches(asked.lower(), known, n=3)]
    guess = f"Did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
    return f"{guess}Known by name: digits, {', '.join(sorted(TORCHVISION_SETS, key=str.lower))}"


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


@dataclass
class TorchvisionDataset:
    """Part of one of torchvision's datasets."""

    dataset: Any
    labels: list[int]
    title: str
    mode: Mode
    numbers: list[int]
    """The position in ``dataset`` of each image."""
    skips_bad: bool = False

    def __len__(self) -> int:
        return len(self.numbers)

    def load(self, index: int) -> Sample[int]:
        """The image and its class; raises ``UnreadableImage`` where its file is corrupt."""
        try:
            image = as_mode(self.dataset[self.numbers[index]][0], self.mode)
        except Exception as error:  # Pillow's decoders raise errors of any type on corrupt files
            raise UnreadableImage(self.name(index), str(error)) from None
        return Sample(image, self.labels[index])

    def name(self, index: int) -> str:
        """Such as ``CIFAR10/train/17``."""
        return f"{self.title}/{self.numbers[index]}"


def open_torchvision(config: DataConfig) -> Splits[int]:
    """One of torchvision's datasets; raises ``DataError`` where it is unknown, missing or corrupt."""
    name = torchvision_name(config.source)
    if name is None:
        asked = config.source.removeprefix("torchvision:")
        raise DataError(f"{asked!r} is not one of torchvision's datasets that are supported. {nearest_name(asked)}")
    row = TORCHVISION_SETS[name]
    mode: Mode = "L" if row.channels == 1 else "RGB"

    def part(dataset: Any, labels: list[int], numbers: Sequence[int], split: str) -> TorchvisionDataset:
        own = [labels[i] for i in numbers]
        return TorchvisionDataset(
            dataset, own, f"{name}/{split}", mode, list(numbers), skips_bad=config.on_bad_image == "skip"
        )

    dataset = _construct(name, row.train, config)
    labels = _labels(dataset)
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    if names is None:  # SVHN and GTSRB have numbers only
        names = [str(label) for label in range(max(labels) + 1)]
    classes = tuple(name if isinstance(name, str) else name[0] for name in names)
    if row.val is not None:
        val_dataset = _construct(name, row.val, config)
        val_labels = _labels(val_dataset)
        train = part(dataset, labels, range(len(labels)), "train")
        val = part(val_dataset, val_labels, range(len(val_labels)), "val")
    else:
        kept, held = hold_out_by_class(labels, classes, config.val_fraction, config.split_seed)
        train, val = (part(dataset, labels, numbers, "train") for numbers in (kept, held))
    return Splits(train, val, classes, channels=row.channels, native_size=row.size)


def _construct(name: str, arguments: Mapping[str, Any], config: DataConfig) -> Any:
    from torchvision import datasets

    root = Path(config.root).expanduser()
    build = getattr(datasets, name)
    try:  # first without download=True, which makes some classes download or unpack a second time
        return build(str(root), **arguments)
    except Exception as error:  # each class raises other errors where its files are missing or corrupt
        if not config.download:
            raise DataError(
                f"{name} cannot be read from {root}: {_one_line(error)}. Add --data.download to download it "
                "there, or name the folder that has it with --data.root"
            ) from None
    try:
        root.mkdir(parents=True, exist_ok=True)
        return build(str(root), download=True, **arguments)
    except Exception as error:  # no network, no space, a moved address, a dataset that is no longer offered
        raise DataError(f"{name} could not be downloaded to {root}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removesuffix(" You can use download=True to download it").rstrip(".")


def _labels(dataset: Any) -> list[int]:
    """Labels without decoding an image: torchvision's classes keep them under one of several names."""
    for attribute in ("targets", "labels", "_labels", "y"):
        if hasattr(dataset, attribute):
            return [int(label) for label in getattr(dataset, attribute)]
    for attribute in ("samples", "_samples"):
        if hasattr(dataset, attribute):
            return [int(label) for _, label in getattr(dataset, attribute)]
    return [int(dataset[i][1]) for i in range(len(dataset))]
