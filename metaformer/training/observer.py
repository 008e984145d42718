"""Observers of a run (callbacks), and the records they receive.

The trainer calls observers in the main process only, in the order in which they were given.
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
    """Training samples per second in this epoch so far, of all processes."""
    running: Mapping[str, float] = field(default_factory=dict)
    """Shares of correct predictions in this epoch so far, by metric; empty where none are counted."""


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch, trained and evaluated."""

    epoch: int
    """The first is 1."""
    metrics: Mapping[str, float]
    """``update``, ``lr``, ``seconds``, ``samples_per_second``, ``train_loss``, the running metrics with the prefix
    ``train_``, ``evaluation_samples_per_second``, the validation metrics, and the same with the prefix ``ema_`` for the
    averaged weights. Values that were not measured are left out."""


class Observer:
    """The trainer's callbacks; all do nothing by default, so a subclass overrides only those it needs."""

    def started(self, trainer: Trainer) -> None:
        """The run starts, or resumes after ``trainer.state``."""

    def stepped(self, step: StepRecord) -> None:
        """The weights were updated."""

    def evaluating(self, batch: int, batches: int) -> None:
        """Batch number ``batch`` of an evaluation with ``batches`` batches is done; the first is 1."""

    def epoch_ended(self, epoch: EpochRecord) -> None:
        """An epoch was evaluated; its checkpoint is written right after this call."""

    def saved(self, path: Path) -> None:
        """A checkpoint or a weights file was written."""

    def finished(self) -> None:
        """The last call, whether the run is complete, was interrupted or failed: close files here."""
