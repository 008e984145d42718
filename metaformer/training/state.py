"""Where a run stands: all that changes besides tensors, and the sums of the epoch it is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf


@dataclass(kw_only=True)
class Position:
    """Saved with every checkpoint, as plain numbers."""

    epoch: int = 0
    """Epochs that are trained and evaluated."""
    window: int = 0
    """Weight updates done in the epoch after those."""
    update: int = 0
    """Weight updates done in all."""
    loss: float = 0.0
    """Sum of the loss over this epoch's images."""
    images: float = 0.0
    """Images of this epoch that were trained on."""
    correct: float = 0.0
    """Right answers among those that were counted."""
    counted: float = 0.0
    """Images with one right answer: all of them, or none while images are mixed."""
    seconds: float = 0.0
    """Time this epoch took so far."""
    lr: float = 0.0
    """The rate of the last update."""
    best: float = -inf
    """The best figure so far."""
    best_epoch: int = 0
    """The epoch it came from; the first is 1."""
    figures: dict[str, float] = field(default_factory=dict)
    """Everything measured in the last whole epoch."""

    @property
    def images_per_second(self) -> float:
        """Training speed of this epoch so far."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def top1(self) -> float | None:
        """Share of right answers while training, where they were counted."""
        return self.correct / self.counted if self.counted else None

    def trained(self) -> dict[str, float]:
        """The training figures of this epoch; ``train_top1`` only where answers were counted."""
        figures = {
            "update": self.update,
            "lr": self.lr,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "train_loss": self.loss / max(self.images, 1),
        }
        return figures if self.top1 is None else {**figures, "train_top1": self.top1}

    def add_step(self, loss: float, images: float, correct: float, counted: float, lr: float, seconds: float) -> None:
        """Add one update: its mean loss, its counts, its rate and its time."""
        self.window += 1
        self.update += 1
        self.loss += loss * images
        self.images += images
        self.correct += correct
        self.counted += counted
        self.lr = lr
        self.seconds += seconds

    def end_epoch(self, figures: dict[str, float]) -> None:
        """Begin the next epoch's sums."""
        self.epoch += 1
        self.figures = figures
        self.window = 0
        self.loss = self.images = self.correct = self.counted = self.seconds = 0.0

    def is_best(self, figure: float) -> bool:
        """Whether the epoch just ended beats all before it, which it then becomes the mark for."""
        better = figure > self.best
        if better:
            self.best, self.best_epoch = figure, self.epoch
        return better
