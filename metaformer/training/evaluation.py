"""A model's metrics on a dataset: the evaluation loop, shared by the trainer and ``metaformer eval``.

In: a plain module, an objective, batches. Out: the metrics, and the parts they are computed from.
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
    """A loader as the trainer uses it: this process's share of every global micro-batch."""

    def __len__(self) -> int:
        """Micro-batches in an epoch."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The micro-batches of epoch ``epoch`` (the first is 0), from number ``start`` on, on any device."""

    def close(self) -> None:
        """Stop worker processes and close files."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The results of an evaluation."""

    metrics: Mapping[str, float]
    """By name, such as ``{"loss": 0.4, "top1": 0.91, "top5": 0.99}``."""
    parts: Sequence[Any]
    """The metric's parts, one for each process, over all samples; tasks read tables and curves from them."""
    samples: int
    """Evaluated samples, of all processes."""


@torch.no_grad()
def measure(
    model: nn.Module,
    objective: Objective,
    loader: Batches,
    *,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    gather: Callable[[Any], list[Any]] = lambda part: [part],
    each_batch: Callable[[], None] = lambda: None,
) -> Measured:
    """Metrics of ``model`` over all of ``loader``; its training mode is restored afterwards.

    ``gather`` returns the parts of all processes. ``each_batch`` is called after each batch (a progress bar, a request
    to stop). ``autocast`` returns the context of the forward pass.
    """
    metric = objective.metric()
    training, samples = model.training, 0
    model.eval()
    try:
        for batch in loader.batches(0):
            samples += len(batch)
            if len(batch):  # a process's share of the last batch may be empty
                moved = batch.to(device)
                with autocast():
                    outputs = objective.forward(model, moved)
                metric.update(outputs, moved)
            each_batch()
    finally:
        model.train(training)
    parts = gather(metric.part)
    return Measured(metrics=metric.compute(parts), parts=parts, samples=sum(gather(samples)))
