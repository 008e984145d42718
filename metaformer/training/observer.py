"""Who watches a run: the records the trainer hands out, and an observer that ignores them all.

The trainer calls observers on the main process only, in the order in which they were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One weight update."""

    epoch: int
    """The first is 1."""
    update: int
    """Updates so far in the run, this one included."""
    updates_per_epoch: int
    total_updates: int
    loss: float
    """Mean over the update's samples, of all processes."""
    lr: float
    """The rate of this update, before each group's own scale."""
    samples_per_second: float
    """Training samples a second in this epoch so far, of all processes."""
    running: Mapping[str, float] = field(default_factory=dict)
    """Shares of right answers in this epoch so far, by metric; empty where none are counted."""


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch, trained and evaluated."""

    epoch: int
    """The first is 1."""
    metrics: Mapping[str, float]
    """``update``, ``lr``, ``seconds``, ``samples_per_second``, ``train_loss``, the running metrics with ``train_`` in
    front, ``evaluation_samples_per_second``, the metrics on the validation part, and the same with ``ema_`` in front
    for the averaged weights. What was not measured is left out."""


class Observer:
    """What the trainer tells; every call has an empty default, so that an observer writes only what it needs."""

    def started(self, trainer: Trainer) -> None:
        """The run begins or goes on after ``trainer.position``."""

    def stepped(self, step: StepRecord) -> None:
        """A weight update is done."""

    def evaluating(self, batch: int, batches: int) -> None:
        """Batch number ``batch`` of an evaluation's ``batches`` is done; the first is 1."""

    def epoch_ended(self, epoch: EpochRecord) -> None:
        """An epoch is evaluated; its checkpoint is written right after this call."""

    def saved(self, path: Path) -> None:
        """A checkpoint or a weights file is on the disk."""

    def finished(self) -> None:
        """The last call, whether the run is complete, was interrupted or failed: close what is open."""
