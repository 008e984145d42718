"""One weight update: model, optimizer and moving average on a device, in one process or in several.

In: the micro-batches of one update (a window). Out: the gradient of their mean loss in every process, then updated
weights. Hugging Face Accelerate handles the device, mixed precision and data parallelism.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from ..recipe import Recipe
from ..types import Batch, Objective
from .averaging import AveragedWeights
from .device import start_accelerator, unwrap
from .evaluation import Batches, Measured, measure
from .optimizer import build_optimizer
from .randomness import reseed
from .state import Counts

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WindowSums:
    """The results of one window, over all processes."""

    loss: float
    """Mean over the window's samples."""
    samples: float
    counts: Counts
    """Correct and counted predictions, by metric."""


class Engine:
    """Model, optimizer and moving average of one ``fit``; each ``fit`` builds a new one."""

    def __init__(
        self, model: nn.Module, objective: Objective, recipe: Recipe, mixing: Callable[[Batch], Batch] | None = None
    ) -> None:
        self.objective, self.recipe, self.mixing = objective, recipe, mixing
        if recipe.machine.threads:
            torch.set_num_threads(recipe.machine.threads)
        if recipe.machine.grad_checkpointing:
            model.set_grad_checkpointing(True)  # type: ignore[operator]
        if recipe.machine.lean_blocks:
            _use_lean_blocks(model)
        self.accelerator = start_accelerator(recipe.machine)
        # parameter groups follow the model's own names, so before prepare adds DDP's prefix; it moves tensors in place
        optimizer = build_optimizer(model, recipe.optimizer, self.accelerator.device)
        self._wrapped, self.optimizer = self.accelerator.prepare(model.train(), optimizer)
        self.module = unwrap(model)
        decay = recipe.optimizer.ema_decay
        # after prepare, so that the copy is on the device too
        self.average = AveragedWeights(self.module, decay) if decay else None

    def release(self) -> None:
        """Put ordinary blocks back where training used lean ones."""
        if self.recipe.machine.lean_blocks:
            from ..model.lean.blocks import restore_blocks

            for module in (self.module, self.average.module if self.average else None):
                if module is not None:
                    restore_blocks(module)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and calls the observers."""
        return bool(self.accelerator.is_main_process)

    @property
    def world(self) -> int:
        """Number of processes."""
        return int(self.accelerator.num_processes)

    def sum_over_processes(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over the processes, in every process."""
        if self.world == 1:  # also because MPS, which has one process, has no float64
            return [float(value) for value in values]
        sums = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        total: list[float] = self.accelerator.reduce(sums, "sum").tolist()
        return total

    def gradients(self, window: Sequence[Batch], update: int) -> WindowSums:
        """Gradient of the mean loss over all samples of the window, in every process.

        Each micro-batch is weighted by its share of the samples, so the update does not depend on how a batch is split
        into micro-batches or among processes.
        """
        (samples,) = self.sum_over_processes([sum(len(batch) for batch in window)])
        loss, names = 0.0, self.objective.running
        sums = torch.zeros(len(names), 2, dtype=torch.float64)
        for index, batch in enumerate(window):
            reseed(self.recipe.seed, update, index, self.accelerator.process_index)
            is_last = index + 1 == len(window)
            # gradients add up locally; processes exchange them once for each window
            with nullcontext() if is_last else self.accelerator.no_sync(self._wrapped):
                part, counts = self._micro_batch(batch, share=len(batch) / samples)
            loss += float(part) * len(batch) / samples
            for row, name in zip(sums, names, strict=True):
                row += torch.tensor([float(value) for value in counts.get(name, (0.0, 0.0))], dtype=torch.float64)
        loss, *flat = self.sum_over_processes([loss, *sums.flatten().tolist()])
        counts_of_all = {name: (flat[2 * i], flat[2 * i + 1]) for i, name in enumerate(names)}
        return WindowSums(loss=loss, samples=samples, counts=counts_of_all)

    def step(self, rate: float, update: int) -> None:
        """Clip, step, average: update number ``update`` (the first is 0) at learning rate ``rate``."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)  # timm's key, set where there is layer decay
        if self.recipe.optimizer.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self._wrapped.parameters(), self.recipe.optimizer.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update(self.module, update + 1)  # timm counts from 1

    def evaluate(self, module: nn.Module, loader: Batches, each_batch: Callable[[], None]) -> Measured:
        """The metrics of ``module`` over the whole dataset, all processes together."""
        if self.world > 1:
            # batch norm's statistics differ between processes, and those of the main one are saved
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, src=0)
        return measure(
            module,
            self.objective,
            loader,
            device=self.accelerator.device,
            autocast=self.accelerator.autocast,
            gather=self._gather,
            each_batch=each_batch,
        )

    def is_finite(self) -> bool:
        """Whether every weight is finite."""
        state = self.module.state_dict().values()
        return all(bool(tensor.isfinite().all()) for tensor in state if tensor.is_floating_point())

    def state(self) -> dict[str, Any]:
        """Everything that an exact resume needs; the tensors themselves, not copies."""
        scaler = self.accelerator.scaler
        return {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state``; raises PyTorch's own errors where the state does not fit."""
        self.module.load_state_dict(state["model"])
        # version 0.1.0 spelled it the British way
        self.optimizer.load_state_dict(state["optimizer"] if "optimizer" in state else state["optimiser"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def _micro_batch(self, batch: Batch, share: float) -> tuple[Tensor, Mapping[str, tuple[Tensor | float, float]]]:
        """Forward and backward; the mean loss, and correct and counted predictions by metric."""
        batch = batch.to(self.accelerator.device)
        if self.mixing is not None:
            batch = self.mixing(batch)
        with self.accelerator.autocast():  # explicit, since unwrap removed it from forward
            outputs = self.objective.forward(self._wrapped, batch)
            loss = self.objective.loss(outputs, batch)
        # times the number of processes, because DDP averages gradients over them
        self.accelerator.backward(loss * (share * self.world))
        return loss.detach(), self.objective.count(outputs, batch)

    def _gather(self, part: Any) -> list[Any]:
        """The parts of all processes, in every process."""
        return [part] if self.world == 1 else gather_object([part])


def _use_lean_blocks(model: nn.Module) -> None:
    from ..model.lean.blocks import use_lean_blocks  # ordinary training does not import this package

    if not use_lean_blocks(model):
        log.warning("machine.lean_blocks: no block of this model has pooling and group norm; the setting has no effect")
