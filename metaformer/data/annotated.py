"""What every annotated set looks like from outside: ``Annotated`` images, and ``AnnotatedSplits`` of two.

Where ``Images`` have a class each, these have objects (``coco.py``) or a class for each pixel (``label_maps.py``).
G objects in an image of H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ..errors import DataError
from ..recipe import DataConfig
from .sets import BadFile, hold_out

IGNORED = 255
"""What pixels without a class are in a label map, once it is read."""

_TOLD = 20  # faults that one message lists


class Annotated(Protocol):
    """Images with what is known of them, read one at a time."""

    @property
    def skips_bad(self) -> bool:
        """Whether an image that turns out unusable may be replaced by the next one, or ends the run."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> tuple[Image.Image, Any]:
        """An image in mode ``RGB`` with its ``Objects``, or its label map: (H, W) int64, ignored pixels 255.

        Raises ``UnreadableImage``.
        """

    def name(self, index: int) -> str:
        """The image's path."""


@dataclass(frozen=True)
class AnnotatedSplits:
    """An annotated data set, opened: what to train on, what to evaluate on, and what the labels mean."""

    train: Annotated
    val: Annotated
    classes: tuple[str, ...]
    """A name for each label; the background has none."""
    channels: int = 3
    skipped: tuple[BadFile, ...] = ()
    """Images and annotations that were left out because they cannot be right."""
    held_out_here: bool = False
    """Whether the validation part was split off here because the data came in one piece."""
    has_masks: bool = False
    """Whether every object has a mask."""

    def __post_init__(self) -> None:
        for part, images in (("training", self.train), ("validation", self.val)):
            if len(images) == 0:
                raise DataError(f"the {part} part has no image; expected at least one")


def annotated_folder(choice: DataConfig, expected: str) -> Path:
    """The folder that ``choice.source`` names; raises ``DataError`` where there is none."""
    source = choice.source.strip()
    path = Path(source).expanduser()
    if not source or not path.is_dir():
        what = "is a file" if path.is_file() else "is no folder"
        raise DataError(f"data.source: {source or 'nothing'} {what}; expected a folder with {expected}")
    return path


def refuse_faults(bad: Sequence[BadFile], choice: DataConfig, root: Path) -> None:
    """Raise a ``DataError`` that lists what cannot be right, if there is anything and it may not be left out."""
    if not bad or choice.on_bad_image == "skip":
        return
    lines = [f"  {fault.path}: {fault.reason}" for fault in bad[:_TOLD]]
    if len(bad) > _TOLD:
        lines.append(f"  and {len(bad) - _TOLD} more; `metaformer data check {root}` lists them all")
    things = "fault" if len(bad) == 1 else "faults"
    raise DataError(
        f"{len(bad)} {things} in {root}:\n"
        + "\n".join(lines)
        + "\nRepair or remove them, or leave them out with --data.on-bad-image skip"
    )


def held_out(count: int, choice: DataConfig) -> tuple[list[int], list[int]]:
    """Positions to train on and to evaluate on, where a set came in one piece; raises ``DataError`` for one image."""
    if count < 2:
        raise DataError(f"{choice.source} has {count} image; expected two or more, or a validation part")
    return hold_out([0] * count, ("images",), choice.val_fraction, choice.split_seed)
