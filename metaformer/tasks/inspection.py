"""Inspect a dataset, for ``metaformer data check``: counts, sizes, classes, and files that cannot be used."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ..data.dataset import BadFile, Progress
from ..data.inspection import PartSummary
from ..errors import DataError
from ..recipe import DataConfig
from .task import recognized_task, task_named


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The summary of a dataset."""

    source: str
    task: str
    classes: tuple[str, ...]
    has_masks: bool
    held_out_here: bool
    """Whether the validation part was split off here because the data has none of its own."""
    parts: tuple[PartSummary, ...]
    bad: tuple[BadFile, ...]
    """Files and annotations that cannot be used, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def inspect_data(config: DataConfig, task: str | None = None, progress: Progress | None = None) -> Inspection:
    """The summary of a dataset; the task is recognized from its layout by default.

    Unreadable files are collected, whatever ``config.on_bad_image`` is. Raises ``DataError`` where the dataset as a
    whole cannot be opened.
    """
    chosen = recognized_task(config) if task is None else task_named(task)
    try:
        splits = chosen.open(replace(config, on_bad_image="skip"), progress)
    except DataError:
        # where too much was skipped, this names the single files, which is the better message
        chosen.open(replace(config, on_bad_image="refuse"), None)
        raise
    parts = chosen.inspect(splits, progress)
    return Inspection(
        source=config.source,
        task=chosen.name,
        classes=splits.classes,
        has_masks=splits.has_masks,
        held_out_here=splits.held_out_here,
        parts=parts,
        bad=(*splits.skipped, *(file for part in parts for file in part.bad)),
    )
