"""A model's figures on a set of pictures: the one loop without gradients, for the trainer and for ``eval``.

In: a plain module, a task, batches. Out: the task's figures and the total they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..types import Batch, Task


class Batches(Protocol):
    """What the trainer wants of a loader: this process's share of every global micro-batch."""

    def __len__(self) -> int:
        """Micro-batches in an epoch."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The micro-batches of epoch ``epoch`` (the first is 0) from number ``start`` on, on any device."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model scores."""

    figures: Mapping[str, float]
    """By name, such as ``{"loss": 0.4, "top1": 0.91, "top5": 0.99}``."""
    total: Tensor
    """The metric's total over all pictures, float64 on the CPU; the metric can read more from it."""
    images: int
    """Pictures that were evaluated, over all processes."""


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task,
    loader: Batches,
    *,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    join: Callable[[Tensor], Tensor] = lambda total: total,
    each_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Figures of ``model`` over all of ``loader``; the model comes back in the mode it had.

    ``join`` sums a total over processes, ``each_batch`` is called after each batch (a progress bar, a request to
    stop), ``autocast`` gives the context of the forward pass.
    """
    metric = task.metric()
    training, images = model.training, torch.zeros(1, dtype=torch.float64)
    model.eval()
    try:
        for batch in loader.batches(0):
            images += len(batch)
            if len(batch):
                here = batch.to(device)
                with autocast():
                    outputs = model(here.images)
                metric.update(outputs, here)
            each_batch()
    finally:
        model.train(training)
    total = join(metric.total)
    return Evaluation(figures=metric.compute(total), total=total, images=int(join(images)))
