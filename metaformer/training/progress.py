"""Progress bars on a terminal, and a line for each epoch everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..metrics import MetricDef
from .observer import EpochRecord, Observer, StepRecord

if TYPE_CHECKING:
    from .trainer import Trainer


class ProgressBars(Observer):
    """One bar for the epoch and one for the run, with loss, running metrics, samples/s and the remaining time.

    Where the output is not a terminal, only the lines are printed. ``title`` comes first in bars and lines;
    ``epoch_lines`` turns the lines off.
    """

    def __init__(self, title: str = "", console: Console | None = None, epoch_lines: bool = True) -> None:
        self.title = f"{title} " if title else ""
        self.console = console or Console()
        self.epoch_lines = epoch_lines
        self._bars: Progress | None = None
        self._epochs = 0
        self._metrics: Sequence[MetricDef] = ()
        self._epoch_bar = self._run_bar = TaskID(0)

    def started(self, trainer: Trainer) -> None:
        """Show the bars, at the place where the run starts or resumes."""
        self._epochs, self._metrics = trainer.total_epochs, trainer.objective.metrics
        if not self.console.is_terminal:
            return
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,  # the lines of the epochs stay, the bars do not
        )
        state = trainer.state
        self._epoch_bar = self._bars.add_task(
            f"{self.title}epoch", total=trainer.updates_per_epoch, completed=state.window, text=""
        )
        self._run_bar = self._bars.add_task(
            f"{self.title}run", total=trainer.total_updates, completed=state.update, text=""
        )
        self._bars.start()

    def stepped(self, step: StepRecord) -> None:
        """Advance the bars by one update."""
        if self._bars is None:
            return
        done = step.update - (step.epoch - 1) * step.updates_per_epoch
        labels = {metric.name: metric.label for metric in self._metrics}
        running = "".join(f"  {labels.get(name, name)} {share:.1%}" for name, share in step.running.items())
        text = f"loss {step.loss:.3f}{running}  {step.samples_per_second:,.0f} samples/s"
        name = f"{self.title}epoch {step.epoch}/{self._epochs}"
        if done == 1:
            self._bars.reset(self._epoch_bar)  # restarts the clock that the remaining time is estimated from
        self._bars.update(self._epoch_bar, completed=done, description=name, text=text)
        self._bars.update(self._run_bar, completed=step.update, text=f"lr {step.lr:.2e}")

    def evaluating(self, batch: int, batches: int) -> None:
        """Show the progress of the evaluation."""
        if self._bars is not None:
            self._bars.update(self._run_bar, text=f"evaluating, batch {batch}/{batches}")

    def epoch_ended(self, epoch: EpochRecord) -> None:
        """Print one line."""
        if self.epoch_lines:
            number = f"{epoch.epoch:>{len(str(self._epochs))}}/{self._epochs}"
            self.console.print(
                f"{self.title}epoch {number}  {_summary(epoch.metrics, self._metrics)}",
                highlight=False,
                soft_wrap=True,  # rich would break the line at 80 columns where the output is a file
            )

    def finished(self) -> None:
        """Remove the bars."""
        if self._bars is not None:
            self._bars.stop()


def _summary(values: Mapping[str, float], metrics: Sequence[MetricDef]) -> str:
    """``train loss 0.412  loss 0.380  top-1 91.2%  averaged 92.0%  1,234 samples/s  12 s``, without missing values."""
    parts = [f"train loss {values['train_loss']:.3f}"]
    for metric in metrics:
        # the averaged weights' loss is left out: a line of 80 columns has no room for a third loss
        for prefix, label in (("", metric.label), ("ema_", "averaged")):
            value = values.get(prefix + metric.name)
            if metric.shown and value is not None and (metric.unit == "share" or not prefix):
                parts.append(f"{label} {value:.1%}" if metric.unit == "share" else f"{label} {value:.3f}")
    parts.append(f"{values['samples_per_second']:,.0f} samples/s")
    parts.append(f"{values['seconds']:.1f} s")
    return "  ".join(parts)
