"""Bars on a terminal while a run goes on, a line for each epoch everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..metrics import figure_name
from .observer import EpochRecord, Observer, StepRecord

if TYPE_CHECKING:
    from .trainer import Trainer


class ProgressBars(Observer):
    """One bar for the epoch and one for the run, with loss, accuracy, images/s and the time left.

    Where the output is no terminal only the lines are written. ``title`` names the run in front of both.
    """

    def __init__(self, title: str = "", console: Console | None = None, lines: bool = True) -> None:
        self.title = f"{title} " if title else ""
        self.console = console or Console()
        self.lines = lines
        self._bars: Progress | None = None
        self._epochs = 0
        self._epoch_bar = self._run_bar = TaskID(0)

    def started(self, trainer: Trainer) -> None:
        """Draw the bars where the run begins or goes on."""
        self._epochs = trainer.total_epochs
        if not self.console.is_terminal:
            return
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
        )
        position = trainer.position
        self._epoch_bar = self._bars.add_task(
            f"{self.title}epoch", total=trainer.updates_per_epoch, completed=position.window, told=""
        )
        self._run_bar = self._bars.add_task(
            f"{self.title}run", total=trainer.total_updates, completed=position.update, told=""
        )
        self._bars.start()

    def stepped(self, step: StepRecord) -> None:
        """Move the bars by one update."""
        if self._bars is None:
            return
        done = step.update - (step.epoch - 1) * step.updates_per_epoch
        accuracy = "" if step.top1 is None else f"  accuracy {step.top1:.1%}"
        told = f"loss {step.loss:.3f}{accuracy}  {step.images_per_second:,.0f} images/s"
        name = f"{self.title}epoch {step.epoch}/{self._epochs}"
        if done == 1:
            self._bars.reset(self._epoch_bar)
        self._bars.update(self._epoch_bar, completed=done, description=name, told=told)
        self._bars.update(self._run_bar, completed=step.update, told=f"lr {step.lr:.2e}")

    def evaluating(self, batch: int, batches: int) -> None:
        """Show how far the evaluation is."""
        if self._bars is not None:
            self._bars.update(self._run_bar, told=f"evaluating, batch {batch}/{batches}")

    def epoch_ended(self, epoch: EpochRecord) -> None:
        """One line that stays."""
        if self.lines:
            self.console.print(
                f"{self.title}epoch {epoch.epoch:>{len(str(self._epochs))}}/{self._epochs}  {_told(epoch.figures)}",
                highlight=False,
                soft_wrap=True,
            )

    def finished(self) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.stop()


SHOWN = ("top1", "box_ap", "box_ap50", "mask_ap", "mask_ap50", "miou", "pixel_accuracy")
"""Figures that an epoch's line has room for."""


def _told(figures: Mapping[str, float]) -> str:
    """``train loss 0.412  loss 0.380  top-1 91.2%  averaged 92.0%  1,234 images/s  12 s``, what there is of it."""
    parts = [f"train loss {figures['train_loss']:.3f}"]
    if "loss" in figures:
        parts.append(f"loss {figures['loss']:.3f}")
    for name in SHOWN:
        if name in figures:
            parts.append(f"{figure_name(name)} {figures[name]:.1%}")
        if f"ema_{name}" in figures:
            parts.append(f"averaged {figures[f'ema_{name}']:.1%}")
    parts.append(f"{figures['images_per_second']:,.0f} images/s")
    parts.append(f"{figures['seconds']:.1f} s")
    return "  ".join(parts)
