"""What moves the weights: model, optimizer and moving average on a device, alone or beside other processes.

In: the micro-batches of one window. Out: gradients of their mean loss in every process, then moved weights. Hugging
Face Accelerate brings the device, mixed precision and data parallelism.
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
from .device import plain, start_accelerator
from .evaluation import Batches, Measured, measure
from .optimizer import build_optimizer
from .randomness import reseed
from .state import Counts

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WindowSums:
    """What one window came to, over all processes."""

    loss: float
    """Mean over the window's samples."""
    samples: float
    counts: Counts
    """Right answers and counted answers, by metric."""


class Engine:
    """Built anew for each ``fit``: Accelerate keeps one state per process, and a run that starts takes it over."""

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
        optimizer = build_optimizer(model, recipe.optimizer, self.accelerator.device)
        self._wrapped, self.optimizer = self.accelerator.prepare(model.train(), optimizer)
        self.module = plain(model)
        decay = recipe.optimizer.ema_decay
        self.average = AveragedWeights(self.module, decay) if decay else None

    def release(self) -> None:
        """The modules as they were built: lean blocks, where training used them, become plain ones again."""
        if self.recipe.machine.lean_blocks:
            from ..model.lean.blocks import restore_blocks

            for module in (self.module, self.average.module if self.average else None):
                if module is not None:
                    restore_blocks(module)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and tells the observers."""
        return self.accelerator.is_main_process

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    def joined(self, values: Sequence[float]) -> list[float]:
        """The sum of each value over the processes; every process gets the same."""
        return self._sum(torch.tensor(values, dtype=torch.float64)).tolist()

    def gradients(self, window: Sequence[Batch], update: int) -> WindowSums:
        """Gradient of the mean loss over all samples of the window, in every process.

        Each micro-batch counts by its share of the samples, so splitting a batch, or sharing it among processes, leaves
        the update as it was.
        """
        (samples,) = self.joined([sum(len(batch) for batch in window)])
        loss, names = 0.0, self.objective.running
        sums = torch.zeros(len(names), 2, dtype=torch.float64)
        for index, batch in enumerate(window):
            reseed(self.recipe.seed, update, index, self.accelerator.process_index)
            is_last = index + 1 == len(window)
            with nullcontext() if is_last else self.accelerator.no_sync(self._wrapped):
                part, counts = self._micro_batch(batch, share=len(batch) / samples)
            loss += float(part) * len(batch) / samples
            for row, name in zip(sums, names, strict=True):
                row += torch.tensor([float(value) for value in counts.get(name, (0.0, 0.0))], dtype=torch.float64)
        loss, *flat = self.joined([loss, *sums.flatten().tolist()])
        joined = {name: (flat[2 * i], flat[2 * i + 1]) for i, name in enumerate(names)}
        return WindowSums(loss=loss, samples=samples, counts=joined)

    def move(self, rate: float, update: int) -> None:
        """Clip, step, average: update number ``update`` (the first is 0) at learning rate ``rate``."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        if self.recipe.optimizer.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self._wrapped.parameters(), self.recipe.optimizer.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update(self.module, update + 1)

    def evaluated(self, module: nn.Module, loader: Batches, each_batch: Callable[[], None]) -> Measured:
        """The metrics of ``module`` over the whole set, all processes together."""
        if self.world > 1:
            for buffer in module.buffers():  # batch statistics differ between processes; the main one's are saved
                torch.distributed.broadcast(buffer, src=0)
        return measure(
            module,
            self.objective,
            loader,
            device=self.accelerator.device,
            autocast=self.accelerator.autocast,
            gather=self._gathered,
            each_batch=each_batch,
        )

    def is_finite(self) -> bool:
        """Whether every weight is still a number."""
        state = self.module.state_dict().values()
        return all(bool(tensor.isfinite().all()) for tensor in state if tensor.is_floating_point())

    def state(self) -> dict[str, Any]:
        """Everything that has to be saved to resume exactly; live tensors, not copies."""
        scaler = self.accelerator.scaler
        return {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of ``state``; raises what PyTorch raises when it is the state of something else."""
        self.module.load_state_dict(state["model"])
        # 0.1.0 spelled it the British way
        self.optimizer.load_state_dict(state["optimizer"] if "optimizer" in state else state["optimiser"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def _micro_batch(self, batch: Batch, share: float) -> tuple[Tensor, Mapping[str, tuple[Tensor | float, float]]]:
        """Forward and backward; the mean loss and, by metric, the right answers where they are counted."""
        batch = batch.to(self.accelerator.device)
        if self.mixing is not None:
            batch = self.mixing(batch)
        with self.accelerator.autocast():
            outputs = self.objective.forward(self._wrapped, batch)
            loss = self.objective.loss(outputs, batch)
        self.accelerator.backward(loss * (share * self.world))  # data parallelism averages over the processes
        return loss.detach(), self.objective.count(outputs, batch)

    def _gathered(self, part: Any) -> list[Any]:
        """The parts of all processes, in every process."""
        return [part] if self.world == 1 else gather_object([part])

    def _sum(self, total: Tensor) -> Tensor:
        if self.world == 1:
            return total
        return self.accelerator.reduce(total.to(self.accelerator.device), "sum").cpu()


def _use_lean_blocks(model: nn.Module) -> None:
    from ..model.lean.blocks import use_lean_blocks  # only here: a plain training does without that room

    if not use_lean_blocks(model):
        log.warning("machine.lean_blocks: this model has no block of pooling and group norm; it is trained as it is")
