"""A model's metrics on a dataset: the one loop without gradients, for the trainer and for ``eval``.

In: a plain module, an objective, batches. Out: the metrics and the parts they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from ..types import Batch, Objective


class Batches(Protocol):
    """What the trainer wants of a loader: this process's share of every global micro-batch."""

    def __len__(self) -> int:
        """Micro-batches in an epoch."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The micro-batches of epoch ``epoch`` (the first is 0) from number ``start`` on, on any device."""

    def close(self) -> None:
        """End what is open, such as worker processes."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a model comes to on a dataset."""

    metrics: Mapping[str, float]
    """By name, such as ``{"loss": 0.4, "top1": 0.91, "top5": 0.99}``."""
    parts: Sequence[Any]
    """The metric's parts, one a process, over all images; the metric can read more from them."""
    samples: int
    """How many were evaluated, over all processes."""


@torch.no_grad()
def measure(
    model: nn.Module,
    objective: Objective,
    loader: Batches,
    *,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    gather: Callable[[Any], list[Any]] = lambda part: [part],
    each_batch: Callable[[], None] = lambda: None,
) -> Measured:
    """Metrics of ``model`` over all of ``loader``; the model comes back in the mode it had.

    ``gather`` gives the parts of all processes, ``each_batch`` is called after each batch (a progress bar, a request to
    stop), ``autocast`` gives the context of the forward pass.
    """
    metric = objective.metric()
    training, samples = model.training, 0
    model.eval()
    try:
        for batch in loader.batches(0):
            samples += len(batch)
            if len(batch):
                here = batch.to(device)
                with autocast():
                    outputs = objective.forward(model, here)
                metric.update(outputs, here)
            each_batch()
    finally:
        model.train(training)
    parts = gather(metric.part)
    return Measured(metrics=metric.compute(parts), parts=parts, samples=sum(gather(samples)))
