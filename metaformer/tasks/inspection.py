"""What is in a dataset, for ``metaformer data check``: counts, sizes, classes, and everything that cannot be right."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ..data.inspection import PartFigures
from ..data.sets import BadFile, Progress
from ..errors import DataError
from ..recipe import DataConfig
from .task import recognized_task, task_named


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A dataset, looked at from end to end."""

    source: str
    task: str
    classes: tuple[str, ...]
    has_masks: bool
    held_out_here: bool
    """Whether the data came in one piece, and the parts are drawn."""
    parts: tuple[PartFigures, ...]
    bad: tuple[BadFile, ...]
    """What cannot be right, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def inspect_data(config: DataConfig, task: str | None = None, progress: Progress | None = None) -> Inspection:
    """Everything worth knowing of a dataset before a model is trained on it; the task is recognized where left out.

    Faults are collected, whatever ``config.on_bad_image`` says. Raises ``DataError`` where the dataset as a whole
    cannot be opened.
    """
    chosen = recognized_task(config) if task is None else task_named(task)
    try:
        splits = chosen.open(replace(config, on_bad_image="skip"), progress)
    except DataError:
        # says what is wrong one by one, where that is the reason
        chosen.open(replace(config, on_bad_image="refuse"), None)
        raise
    bad = list(splits.skipped)
    parts = tuple(
        chosen.inspect(name, getattr(splits, name), len(splits.classes), bad, progress) for name in ("train", "val")
    )
    return Inspection(
        source=config.source,
        task=chosen.name,
        classes=splits.classes,
        has_masks=getattr(splits, "has_masks", False),
        held_out_here=splits.held_out_here,
        parts=parts,
        bad=tuple(bad),
    )
