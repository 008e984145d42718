"""The training loop, the same for every task.

In: a model, an objective, a recipe, two loaders, a folder. Out: trained weights in the model, and in the folder the
state of the run, the best and the last weights.

A window is the micro-batches of one weight update. States are saved only between windows, and random numbers inside
one depend on (seed, update, micro-batch, process) only. So a run that is killed at any time and resumed ends with the
same bits as an uninterrupted one.
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
from .device import flush_denormals
from .engine import Engine, WindowSums
from .evaluation import Batches
from .interrupt import Interrupts, RunInterrupted
from .observer import EpochRecord, Observer, StepRecord
from .schedule import learning_rate
from .state import TrainState

BEST = "best.safetensors"
LAST = "last.safetensors"
TIMING = ("seconds", "samples_per_second", "evaluation_samples_per_second")
"""Metrics that differ when a run is repeated; all others are the same to the last bit."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The results of a training."""

    metrics: Mapping[str, float]
    """Everything measured in the last epoch, as in ``EpochRecord.metrics``."""
    best: float | None
    """The best value of the primary metric, by the trained or the averaged weights; None where it was not measured."""
    best_epoch: int
    """The epoch it came from; the first is 1."""


class Trainer:
    """One run of a recipe. ``fit`` is the algorithm; each other method is one line of it.

    The loaders give this process's share of each global micro-batch of ``batch_size / accumulation`` samples.
    ``mixing`` is applied to training batches only. ``metadata`` is added to the headers of ``best.safetensors`` and
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
                "optimizer.batch_size: expected at least one batch of training samples, got none; "
                f"use a batch size below {recipe.optimizer.batch_size} or more samples"
            )
        self.model, self.objective, self.recipe = model, objective, recipe
        self.train_loader, self.val_loader = train_loader, val_loader
        self.folder, self.mixing, self.observers = Path(folder), mixing, tuple(observers)
        self.metadata = dict(metadata or {})
        # rounded up: the last window of an epoch may have fewer micro-batches
        self.updates_per_epoch = ceil(len(train_loader) / recipe.optimizer.accumulation)
        updates = recipe.optimizer.updates
        self.total_updates = updates or self.updates_per_epoch * recipe.optimizer.total_epochs
        self.total_epochs = ceil(self.total_updates / self.updates_per_epoch)
        self.state = TrainState()
        self.checkpoints = Checkpoints(self.folder)

    def fit(self, resume: bool = False) -> FitResult:
        """Train until the recipe's last epoch is evaluated; with ``resume``, from the folder's newest checkpoint.

        Raises ``RunInterrupted`` after SIGTERM, SIGUSR1 or Ctrl-C, with the state saved, and ``RunError`` when the
        loss is not finite, the disk is full, or the checkpoint is damaged or of another run.
        """
        with self._open(resume):
            for epoch in range(self.state.epoch, self.total_epochs):
                for window in self._windows(epoch):
                    sums = self.engine.gradients(window, self.state.update)
                    self._expect_finite(isfinite(sums.loss), f"the loss is {sums.loss}")
                    self.engine.step(self._learning_rate(), self.state.update)
                    self._report(sums)
                    self._save_if_due()
                metrics = self._evaluate()
                self._end_epoch(metrics)
                self._save()
        return FitResult(metrics=self.state.metrics, best=self.state.best, best_epoch=self.state.best_epoch)

    @property
    def average(self) -> AveragedWeights | None:
        """The averaged weights; None without ``ema_decay``."""
        return self.engine.average

    @contextmanager
    def _open(self, resume: bool) -> Iterator[None]:
        """Engine, initial or saved state, signal handlers and observers, released at the end."""
        self.engine = Engine(self.model, self.objective, self.recipe, self.mixing)
        self._load_state(resume)
        try:
            with flush_denormals(self.engine.accelerator.device), Interrupts() as self._interrupts:
                self._notify(lambda observer: observer.started(self))
                # after the observers, which may take seconds: the clocks measure the training
                self._saved_at = self._lap_at = time.perf_counter()
                yield
        finally:
            self.engine.release()
            self._notify(lambda observer: observer.finished())

    def _load_state(self, resume: bool) -> None:
        self.state = TrainState()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder}: the run's folder cannot be created ({error.strerror}). Choose another with --out"
            ) from None
        state = self.checkpoints.load() if resume else None
        if state is not None:
            self._restore(state)
        elif self.engine.is_main:
            self.checkpoints.clear()
        # the main process must not replace a checkpoint that another still reads
        self.engine.accelerator.wait_for_everyone()

    def _windows(self, epoch: int) -> Iterator[list[Batch]]:
        """The rest of the epoch, ``accumulation`` micro-batches at a time; the last window may have fewer."""
        size = self.recipe.optimizer.accumulation
        start = self.state.window * size
        if start < len(self.train_loader):  # not so where a run stopped in the evaluation after its last window
            batches = self.train_loader.batches(epoch, start)
            # recipe.optimizer.updates may end the run within an epoch
            while self.state.update < self.total_updates and (window := list(islice(batches, size))):
                yield window

    def _learning_rate(self) -> float:
        return learning_rate(self.state.update, self.recipe.optimizer, self.updates_per_epoch)

    def _report(self, sums: WindowSums) -> None:
        rate = self._learning_rate()  # before add_step, which counts the update
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
        self._notify(lambda observer: observer.stepped(record))

    def _evaluate(self) -> dict[str, float]:
        """Training metrics of the epoch, validation metrics of the trained weights and, as ``ema_...``, of the
        averaged ones."""
        start = time.perf_counter()
        measured = self.engine.evaluate(self.engine.module, self.val_loader, self._after_each_batch())
        speed = measured.samples / (time.perf_counter() - start)
        metrics = {"evaluation_samples_per_second": speed, **measured.metrics}
        if self.average:
            averaged = self.engine.evaluate(self.average.module, self.val_loader, self._after_each_batch())
            metrics |= {f"ema_{name}": value for name, value in averaged.metrics.items()}
        training = self.state.training_metrics()
        training["seconds"] += self._lap()  # the epoch's time includes its evaluation, its samples per second do not
        return training | metrics

    def _end_epoch(self, metrics: dict[str, float]) -> None:
        """Write the weights and notify the observers."""
        # the loss was computed before the last update, so it cannot show what that update did to the weights
        self._expect_finite(self.engine.is_finite(), "a weight is not finite")
        primary = self.objective.primary
        # NaN is never better, and a metric may be left out
        trained, averaged = metrics.get(primary.name, nan), metrics.get(f"ema_{primary.name}", nan)
        by_average = primary.is_better(averaged, trained)
        self.state.end_epoch(metrics)
        # weights and metrics.csv before the checkpoint that counts the epoch: a run that is killed in between repeats
        # the evaluation and writes them again
        self._write_weights(LAST, metrics, averaged=False)
        if self.state.update_best(averaged if by_average else trained, primary):
            self._write_weights(BEST, metrics, averaged=by_average)
        record = EpochRecord(epoch=self.state.epoch, metrics=metrics)
        self._notify(lambda observer: observer.epoch_ended(record))

    def _write_weights(self, name: str, metrics: Mapping[str, float], averaged: bool) -> None:
        if not self.engine.is_main:
            return
        module = self.average.module if averaged and self.average else self.engine.module
        # without timing, the weights files of a repeated or resumed run are the same to the byte
        reproducible = {key: value for key, value in metrics.items() if key not in TIMING}
        header = {"epoch": str(self.state.epoch), "averaged": json.dumps(averaged), "metrics": json.dumps(reproducible)}
        write_tensors(self.folder / name, module.state_dict(), {**self.metadata, **header})
        self._notify(lambda observer: observer.saved(self.folder / name))

    def _save_if_due(self) -> None:
        """Save after ``save_minutes``, every ``save_steps`` updates, and after a signal."""
        machine = self.recipe.machine
        is_time = self.engine.is_main and time.perf_counter() - self._saved_at >= 60 * machine.save_minutes
        # clocks and signals differ between processes; were one to stop alone, the others would wait for it forever
        time_anywhere, signal_anywhere = self.engine.sum_over_processes([is_time, self._interrupts.received])
        if time_anywhere or signal_anywhere or (machine.save_steps and self.state.update % machine.save_steps == 0):
            self._save()
        if signal_anywhere:
            # 0 where only another process received it
            raise RunInterrupted(self._interrupts.received or signal.SIGTERM, self.checkpoints.path)

    def _after_each_batch(self) -> Callable[[], None]:
        """The callback of an evaluation: notify observers, and stop after a signal."""
        batches = count(1)

        def after_batch() -> None:
            batch = next(batches)
            self._notify(lambda observer: observer.evaluating(batch, len(self.val_loader)))
            # a resumed run repeats the evaluation, so it may stop anywhere; several processes could not stop together
            if self.engine.world == 1 and self._interrupts.received:
                self._save()
                raise RunInterrupted(self._interrupts.received, self.checkpoints.path)

        return after_batch

    def _save(self) -> None:
        # Stop on NaN or Inf before a bad state replaces a good one.
        self._expect_finite(self.engine.is_finite(), "a weight is not finite")
        if self.engine.is_main:
            path = self.checkpoints.save(
                {"run": self._batching(), "state": self.state.to_dict(), **self.engine.state()}
            )
            self._notify(lambda observer: observer.saved(path))
        self._saved_at = time.perf_counter()

    def _batching(self) -> dict[str, int]:
        """The settings that decide which samples belong to which update; a resumed run must have the same."""
        return {
            "seed": self.recipe.seed,
            "accumulation": self.recipe.optimizer.accumulation,
            "batches_per_epoch": len(self.train_loader),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        for name, value in self._batching().items():
            if state["run"][name] != value:
                raise RunError(
                    f"{self.folder}: this run was started with {name} {state['run'][name]}, got {value}; resume it "
                    "with the same settings, or start a new run in another folder"
                )
        try:
            self.engine.restore(state)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{self.checkpoints.path}: the checkpoint has another model, optimizer or moving average "
                f"({str(error).splitlines()[0]}); resume it with the same settings, or start a new run elsewhere"
            ) from None
        saved = state["state"] if "state" in state else state["position"]  # its name in version 0.1.0
        self.state = TrainState.from_dict(saved, self.objective.running)

    def _expect_finite(self, is_finite: bool, problem: str) -> None:
        if is_finite:
            return
        saved = self.checkpoints.path
        raise DivergedError(
            f"training diverged: {problem} in epoch {self.state.epoch + 1}, update {self.state.update + 1} of "
            f"{self.total_updates}, learning rate {self._learning_rate():.3g}. "
            + (f"The last good checkpoint is {saved}. " if saved.exists() else "No checkpoint was saved yet. ")
            + "Try a lower lr or a longer warm-up, clip_grad 1.0, or precision bf16 or fp32 instead of fp16"
        )

    def _notify(self, callback: Callable[[Observer], None]) -> None:
        if self.engine.is_main:
            for observer in self.observers:
                callback(observer)

    def _lap(self) -> float:
        """Seconds since the last call."""
        before, self._lap_at = self._lap_at, time.perf_counter()
        return self._lap_at - before
