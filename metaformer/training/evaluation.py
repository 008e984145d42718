"""A model's figures on a set of images: the one loop without gradients, for the trainer and for ``eval``.

In: a plain module, a task, batches. Out: the task's figures and the parts they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

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
    parts: Sequence[Any]
    """The metric's parts, one a process, over all images; the metric can read more from them."""
    images: int
    """Images that were evaluated, over all processes."""


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task,
    loader: Batches,
    *,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    gather: Callable[[Any], list[Any]] = lambda part: [part],
    each_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Figures of ``model`` over all of ``loader``; the model comes back in the mode it had.

    ``gather`` gives the parts of all processes, ``each_batch`` is called after each batch (a progress bar, a request to
    stop), ``autocast`` gives the context of the forward pass.
    """
    metric = task.metric()
    training, images = model.training, 0
    model.eval()
    try:
        for batch in loader.batches(0):
            images += len(batch)
            if len(batch):
                here = batch.to(device)
                with autocast():
                    outputs = task.outputs(model, here)
                metric.update(outputs, here)
            each_batch()
    finally:
        model.train(training)
    parts = gather(metric.part)
    return Evaluation(figures=metric.compute(parts), parts=parts, images=sum(gather(images)))
