"""Training: makes any task's model better and does not know which task it is.

In: a model, a task, a recipe, two loaders, a folder. Out: trained weights in the model, and in the folder the
state of the run, the best and the last weights.

A window is the micro-batches of one weight update, and the unit of everything: states are saved between windows
only, and every random draw inside one follows from (seed, update, micro-batch, process). So a run that is killed
at any instant and resumed ends with the same bits as one that was left alone.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from math import ceil, isfinite, nan
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import DivergedError, RunError
from ..recipe import Recipe
from ..types import Batch, Objective
from ..weights.safetensors_io import write_tensors
from .averaging import AveragedWeights
from .checkpoint import Checkpoints
from .device import denormals_flushed
from .engine import Engine, WindowSums
from .evaluation import Batches
from .interrupt import Interrupts, RunInterrupted
from .observer import EpochRecord, Observer, StepRecord
from .schedule import learning_rate
from .state import TrainState

BEST = "best.safetensors"
LAST = "last.safetensors"
TIMING = ("seconds", "samples_per_second", "evaluation_samples_per_second")
"""Values that differ from one repetition of a run to the next; all others are the same to the last bit."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a run came to."""

    metrics: Mapping[str, float]
    """Everything measured in the last epoch, as in ``EpochRecord.metrics``."""
    best: float | None
    """The best value of the primary metric, of the trained or of the averaged weights; None where it was never
    measured."""
    best_epoch: int
    """The epoch it came from; the first is 1."""


class Trainer:
    """One run of a recipe. ``fit`` is the algorithm; everything else is one of its lines.

    The loaders give this process's share of each global micro-batch of ``batch_size / accumulation`` images.
    ``mixing`` is applied to training batches only. ``metadata`` goes into the header of ``best.safetensors`` and
    ``last.safetensors``. After ``fit`` the trained weights are in ``model``, the averaged ones in ``average``.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        recipe: Recipe,
        train_loader: Batches,
        val_loader: Batches,
        folder: Path,
        mixing: Callable[[Batch], Batch] | None = None,
        observers: Sequence[Observer] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if len(train_loader) == 0:
            raise RunError(
                "optimizer.batch_size: expected at least one batch of training images, got none; "
                f"take a batch smaller than {recipe.optimizer.batch_size} or more images"
            )
        self.model, self.objective, self.recipe = model, objective, recipe
        self.train_loader, self.val_loader = train_loader, val_loader
        self.folder, self.mixing, self.observers = Path(folder), mixing, tuple(observers)
        self.metadata = dict(metadata or {})
        self.updates_per_epoch = ceil(len(train_loader) / recipe.optimizer.accumulation)
        updates = recipe.optimizer.updates
        self.total_updates = updates or self.updates_per_epoch * recipe.optimizer.total_epochs
        self.total_epochs = ceil(self.total_updates / self.updates_per_epoch)
        self.state = TrainState()
        self.checkpoints = Checkpoints(self.folder)

    def fit(self, resume: bool = False) -> FitResult:
        """Train until the recipe's last epoch is evaluated; with ``resume`` from the folder's newest whole state.

        Raises ``RunInterrupted`` after SIGTERM, SIGUSR1 or Ctrl-C, with the state saved, and ``RunError`` when the
        loss is not finite, the disk is full or the state in the folder is damaged or of another run.
        """
        with self._running(resume):
            for epoch in range(self.state.epoch, self.total_epochs):
                for window in self._windows(epoch):
                    sums = self.engine.gradients(window, self.state.update)
                    self._stop_unless(isfinite(sums.loss), f"the loss is {sums.loss}")
                    self.engine.move(self._rate(), self.state.update)
                    self._report(sums)
                    self._save_if_due()
                metrics = self._evaluate()
                self._end_epoch(metrics)
                self._save()
        return FitResult(metrics=self.state.metrics, best=self.state.best, best_epoch=self.state.best_epoch)

    @property
    def average(self) -> AveragedWeights | None:
        """The averaged weights, where the recipe asks for them."""
        return self.engine.average

    @contextmanager
    def _running(self, resume: bool) -> Iterator[None]:
        """What is open while a run goes on: the engine, the state it starts from, signals, observers."""
        self.engine = Engine(self.model, self.objective, self.recipe, self.mixing)
        self._begin(resume)
        try:
            with denormals_flushed(self.engine.accelerator.device), Interrupts() as self._interrupts:
                self._tell("started", self)
                self._saved_at = self._lap_at = time.perf_counter()
                yield
        finally:
            self.engine.release()
            self._tell("finished")

    def _begin(self, resume: bool) -> None:
        self.state = TrainState()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder}: a folder for the run cannot be made here ({error.strerror}). Choose another with --out"
            ) from None
        state = self.checkpoints.load() if resume else None
        if state is not None:
            self._restore(state)
        elif self.engine.is_main:
            self.checkpoints.clear()
        self.engine.accelerator.wait_for_everyone()

    def _windows(self, epoch: int) -> Iterator[list[Batch]]:
        """The rest of the epoch, ``accumulation`` micro-batches at a time; the last window may have fewer."""
        size = self.recipe.optimizer.accumulation
        start = self.state.window * size
        if start < len(self.train_loader):
            batches = self.train_loader.batches(epoch, start)
            while self.state.update < self.total_updates and (window := list(islice(batches, size))):
                yield window

    def _rate(self) -> float:
        return learning_rate(self.state.update, self.recipe.optimizer, self.updates_per_epoch)

    def _report(self, sums: WindowSums) -> None:
        rate = self._rate()
        self.state.add_step(sums.loss, sums.samples, sums.counts, rate, self._lap())
        record = StepRecord(
            epoch=self.state.epoch + 1,
            update=self.state.update,
            updates_per_epoch=self.updates_per_epoch,
            total_updates=self.total_updates,
            loss=sums.loss,
            lr=rate,
            samples_per_second=self.state.samples_per_second,
            running=self.state.running,
        )
        self._tell("stepped", record)

    def _evaluate(self) -> dict[str, float]:
        """The epoch's training metrics, those of the trained weights, and under ``ema_`` the averaged weights'."""
        begun = time.perf_counter()
        measured = self.engine.evaluated(self.engine.module, self.val_loader, self._evaluation_steps())
        speed = measured.samples / (time.perf_counter() - begun)
        metrics = {"evaluation_samples_per_second": speed, **measured.metrics}
        if self.average:
            averaged = self.engine.evaluated(self.average.module, self.val_loader, self._evaluation_steps())
            metrics |= {f"ema_{name}": value for name, value in averaged.metrics.items()}
        trained = self.state.trained()
        trained["seconds"] += self._lap()
        return trained | metrics

    def _end_epoch(self, metrics: dict[str, float]) -> None:
        """Write the weights and tell the observers; the state that says so is saved right after."""
        self._stop_unless(self.engine.is_finite(), "a weight is not finite")
        primary = self.objective.primary
        trained, averaged = metrics[primary.name], metrics.get(f"ema_{primary.name}", nan)
        by_average = primary.is_better(averaged, trained)
        self.state.end_epoch(metrics)
        self._write_weights(LAST, metrics, averaged=False)
        if self.state.update_best(averaged if by_average else trained, primary):
            self._write_weights(BEST, metrics, averaged=by_average)
        self._tell("epoch_ended", EpochRecord(epoch=self.state.epoch, metrics=metrics))

    def _write_weights(self, name: str, metrics: Mapping[str, float], averaged: bool) -> None:
        if not self.engine.is_main:
            return
        module = self.average.module if averaged and self.average else self.engine.module
        lasting = {key: value for key, value in metrics.items() if key not in TIMING}
        header = {"epoch": str(self.state.epoch), "averaged": json.dumps(averaged), "metrics": json.dumps(lasting)}
        write_tensors(self.folder / name, module.state_dict(), {**self.metadata, **header})
        self._tell("saved", self.folder / name)

    def _save_if_due(self) -> None:
        """Save by the clock, by the count and when asked to stop; all processes decide alike."""
        machine = self.recipe.machine
        by_clock = self.engine.is_main and time.perf_counter() - self._saved_at >= 60 * machine.save_minutes
        clock, asked = self.engine.joined([by_clock, self._interrupts.received])
        if clock or asked or (machine.save_steps and self.state.update % machine.save_steps == 0):
            self._save()
        if asked:
            raise RunInterrupted(self._interrupts.received or signal.SIGTERM, self.checkpoints.path)

    def _evaluation_steps(self) -> Callable[[], None]:
        """What is done after each batch of an evaluation."""
        batches = count(1)

        def step() -> None:
            self._tell("evaluating", next(batches), len(self.val_loader))
            self._leave_evaluation_if_asked()

        return step

    def _leave_evaluation_if_asked(self) -> None:
        """An evaluation is repeated on resume, so it may be left anywhere; several processes finish it together."""
        if self.engine.world == 1 and self._interrupts.received:
            self._save()
            raise RunInterrupted(self._interrupts.received, self.checkpoints.path)

    def _save(self) -> None:
        self._stop_unless(self.engine.is_finite(), "a weight is not finite")
        if self.engine.is_main:
            path = self.checkpoints.save(
                {"run": self._run_facts(), "state": self.state.to_dict(), **self.engine.state()}
            )
            self._tell("saved", path)
        self._saved_at = time.perf_counter()

    def _run_facts(self) -> dict[str, Any]:
        """What a state refers to: were it to change, update 7 of epoch 3 would be other samples."""
        return {
            "seed": self.recipe.seed,
            "accumulation": self.recipe.optimizer.accumulation,
            "batches_per_epoch": len(self.train_loader),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        then, now = state["run"], self._run_facts()
        for name, value in now.items():
            if then[name] != value:
                raise RunError(
                    f"{self.folder}: this run was begun with {name} {then[name]}, got {value}; resume it as it was "
                    "begun, or start another in a new folder"
                )
        try:
            self.engine.restore(state)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{self.checkpoints.path}: the state of a run with another model, optimizer or moving average "
                f"({str(error).splitlines()[0]}); resume it as it was begun, or start another in a new folder"
            ) from None
        saved = state["state"] if "state" in state else state["position"]  # as 0.1.0 called it
        self.state = TrainState.from_dict(saved, self.objective.running)

    def _stop_unless(self, finite: bool, problem: str) -> None:
        """Stop on NaN or Inf before a bad state is saved, and say where and what helps."""
        if finite:
            return
        kept = self.checkpoints.path
        raise DivergedError(
            f"training stopped: {problem} in epoch {self.state.epoch + 1}, update {self.state.update + 1} of "
            f"{self.total_updates}, learning rate {self._rate():.3g}. "
            + (f"The last good state is kept in {kept}. " if kept.exists() else "No state had been saved yet. ")
            + "What helps: a lower lr or a longer warm-up, clip_grad 1.0, precision bf16 or fp32 in place of fp16"
        )

    def _tell(self, call: str, *told: Any) -> None:
        if self.engine.is_main:
            for observer in self.observers:
                getattr(observer, call)(*told)

    def _lap(self) -> float:
        """Seconds since the last call."""
        before, self._lap_at = self._lap_at, time.perf_counter()
        return self._lap_at - before
