"""The state of a run besides tensors: counters, the best result, and the sums of the current epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from ..metrics import MetricDef

Counts = Mapping[str, tuple[float, float]]
"""By the name of a metric: correct predictions, and predictions that were counted."""

RENAMED_METRICS = {
    "images_per_second": "samples_per_second",
    "evaluation_images_per_second": "evaluation_samples_per_second",
}
"""Metrics of version 0.1.0 and their present names."""
_RENAMED = {"figures": "metrics", "images": "samples"}  # fields of version 0.1.0


@dataclass(kw_only=True)
class TrainState:
    """Saved with every checkpoint, as plain numbers."""

    epoch: int = 0
    """Epochs completed, evaluation included."""
    window: int = 0
    """Weight updates done in the current epoch."""
    update: int = 0
    """Weight updates done in the run."""
    loss: float = 0.0
    """Sum of the loss over this epoch's samples so far."""
    samples: float = 0.0
    """Samples of this epoch so far."""
    counts: dict[str, list[float]] = field(default_factory=dict)
    """Correct and counted predictions of this epoch, by metric; a mixed image counts nowhere."""
    seconds: float = 0.0
    """Time of this epoch so far."""
    lr: float = 0.0
    """The learning rate of the last update."""
    best: float | None = None
    """The best value of the primary metric so far."""
    best_epoch: int = 0
    """The epoch it came from; the first is 1."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Everything measured in the last completed epoch."""

    @property
    def samples_per_second(self) -> float:
        """Training speed of this epoch so far."""
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def running(self) -> dict[str, float]:
        """Shares of correct predictions in this epoch so far, by metric, where any were counted."""
        return {name: correct / counted for name, (correct, counted) in self.counts.items() if counted}

    def training_metrics(self) -> dict[str, float]:
        """The training metrics of this epoch; ``train_top1`` and the like only where predictions were counted."""
        return {
            "update": self.update,
            "lr": self.lr,
            "seconds": self.seconds,
            "samples_per_second": self.samples_per_second,
            "train_loss": self.loss / max(self.samples, 1),
            **{f"train_{name}": share for name, share in self.running.items()},
        }

    def add_step(self, loss: float, samples: float, counts: Counts, lr: float, seconds: float) -> None:
        """Add one update: its mean loss, its counts, its learning rate and its time."""
        self.window += 1
        self.update += 1
        self.loss += loss * samples  # a sum, because the last window of an epoch may have fewer samples
        self.samples += samples
        for name, (correct, counted) in counts.items():
            before = self.counts.get(name, [0.0, 0.0])
            self.counts[name] = [before[0] + correct, before[1] + counted]
        self.lr = lr
        self.seconds += seconds

    def end_epoch(self, metrics: dict[str, float]) -> None:
        """Count the epoch and reset its sums."""
        self.epoch += 1
        self.metrics = metrics
        self.window = 0
        self.loss = self.samples = self.seconds = 0.0
        self.counts = {}

    def update_best(self, value: float, metric: MetricDef) -> bool:
        """Record the epoch that just ended if it is better than all before; returns whether it is."""
        is_best = metric.is_better(value, self.best)
        if is_best:
            self.best, self.best_epoch = value, self.epoch
        return is_best

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], running: Sequence[str]) -> TrainState:
        """The inverse of ``to_dict``. Version 0.1.0 counted one metric, ``running[0]``."""
        values = dict(saved)
        if "figures" in values:  # only version 0.1.0 wrote it
            values = {_RENAMED.get(name, name): value for name, value in values.items()}
            values["metrics"] = {RENAMED_METRICS.get(name, name): value for name, value in values["metrics"].items()}
            correct, counted = values.pop("correct"), values.pop("counted")
            values["counts"] = {running[0]: [correct, counted]} if running and counted else {}
            # 0.1.0 started from minus infinity
            values["best"] = values["best"] if isfinite(values["best"]) else None
        return cls(**values)
