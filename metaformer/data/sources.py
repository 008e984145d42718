"""What ``data.source`` names in, ``Splits`` out: a folder of images, the digits, or one of torchvision's datasets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, did_you_mean
from ..recipe import DataConfig
from .dataset import Dataset, Progress, Sample, Splits
from .digits import open_digits
from .image_folder import open_image_files, open_image_folder
from .torchvision_sets import nearest_name, open_torchvision, torchvision_name

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def open_labeled(config: DataConfig, progress: Progress | None = None) -> Splits[int]:
    """Open ``config.source`` as images with a class each.

    A folder that exists is read as a folder, except for ``digits``, which is always the built-in dataset (write
    ``./digits`` for a folder of that name). ``torchvision:NAME`` is always torchvision's dataset. ``progress`` is
    called while files are checked. Raises ``DataError`` with the path or name, and what to do.
    """
    source = config.source.strip()
    if not source:
        raise DataError("data.source is empty; expected a folder, 'digits' or the name of a dataset")
    if source.lower() == "digits":
        return open_digits(config)
    if source.startswith("torchvision:"):
        return open_torchvision(config)
    path = Path(source).expanduser()
    if path.is_dir():
        return open_image_folder(path, config, progress)
    if path.exists():
        archive = path.suffix.lower() in _ARCHIVES
        raise DataError(f"{path} is a file; expected a folder{': unpack it first' if archive else ''}")
    if torchvision_name(source):
        return open_torchvision(config)
    raise DataError(_unknown_source(source, path))


def open_unlabeled(config: DataConfig, progress: Progress | None = None) -> Splits[None]:
    """Open ``config.source`` as images without labels: any folder, flat or nested, or a dataset known by name.

    Raises ``DataError`` as ``open_labeled`` does.
    """
    source = config.source.strip()
    if source and source.lower() != "digits" and Path(source).expanduser().is_dir():
        return open_image_files(Path(source).expanduser(), config, progress)
    splits = open_labeled(config, progress)
    return Splits(
        train=WithoutTargets(splits.train),
        val=WithoutTargets(splits.val),
        channels=splits.channels,
        native_size=splits.native_size,
        held_out_here=splits.held_out_here,
    )


@dataclass(frozen=True)
class WithoutTargets:
    """A dataset whose targets are not used."""

    dataset: Dataset[Any]

    @property
    def skips_bad(self) -> bool:
        """As the dataset says."""
        return self.dataset.skips_bad

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int) -> Sample[None]:
        """The image alone; raises ``UnreadableImage``."""
        return Sample(self.dataset.load(index).input, None)

    def name(self, index: int) -> str:
        """The dataset's name for it."""
        return self.dataset.name(index)


def _unknown_source(source: str, path: Path) -> str:
    """The message for a source that does not exist: folders of a similar name where it looks like a path."""
    if len(path.parts) > 1:
        parent = path.parent
        while not parent.is_dir():
            parent = parent.parent
        beside = [entry.name for entry in parent.iterdir() if entry.is_dir()]
        hint = did_you_mean(path.relative_to(parent).parts[0], beside) if beside else ""
        return f"there is no folder {path}. {hint} (in {parent})" if hint else f"there is no folder {path}"
    here = [entry.name for entry in Path().iterdir() if entry.is_dir()]
    return f"{source!r} is neither a folder nor a dataset known by name. {nearest_name(source, [*here, 'digits'])}"
