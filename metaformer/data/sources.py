"""What a person names as data in, ``ImageSplits`` out: a folder, the built-in digits, or a published set."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, did_you_mean
from ..recipe import DataConfig
from .digits import open_digits
from .image_folder import open_folder
from .sets import ImageSplits, Progress
from .torchvision_sets import nearest_name, open_published, published_name

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def open_source(choice: DataConfig, progress: Progress | None = None) -> ImageSplits:
    """Open ``choice.source``.

    A folder that exists is read as a folder, except for ``digits``, which is always the built-in set (write
    ``./digits`` for a folder of that name). ``torchvision:NAME`` is always the published set. ``progress`` is
    called while files are checked. Raises ``DataError`` with the path or name, and what to do.
    """
    source = choice.source.strip()
    if not source:
        raise DataError("data.source is empty; expected a folder, 'digits' or the name of a data set")
    if source.lower() == "digits":
        return open_digits(choice)
    if source.startswith("torchvision:"):
        return open_published(choice)
    path = Path(source).expanduser()
    if path.is_dir():
        return open_folder(path, choice, progress)
    if path.exists():
        archive = path.suffix.lower() in _ARCHIVES
        raise DataError(f"{path} is a file; expected a folder{': unpack it first' if archive else ''}")
    if published_name(source):
        return open_published(choice)
    raise DataError(_unknown(source, path))


def _unknown(source: str, path: Path) -> str:
    """What to say of a source that is neither there nor known: its neighbors when it looks like a path."""
    if len(path.parts) > 1:
        parent = path.parent
        while not parent.is_dir():
            parent = parent.parent
        beside = [entry.name for entry in parent.iterdir() if entry.is_dir()]
        hint = did_you_mean(path.relative_to(parent).parts[0], beside) if beside else ""
        return f"there is no folder {path}. {hint} (in {parent})" if hint else f"there is no folder {path}"
    here = [entry.name for entry in Path().iterdir() if entry.is_dir()]
    return f"{source!r} is neither a folder nor a data set known by name. {nearest_name(source, [*here, 'digits'])}"
