"""Sample positions in, one batch out: loading, transforming and collating, in the training process or in a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ...errors import DataError, InputError
from ..dataset import Dataset, Sample, Target
from ..decode import UnreadableImage
from .seeding import seed_sample

SamplePosition = tuple[int, int]
"""An epoch and the index of a sample: all that its random draws depend on, beside the seed."""


class UnreadableSample(NamedTuple):
    """A sample that could not be loaded, and was replaced or left out."""

    name: str
    message: str


@dataclass
class WorkerBatch:
    """What a worker sends: a batch, or the message of an error."""

    inputs: Any = ()
    """(B, C, H, W), or a list of B images where they differ in size."""
    targets: Any = ()
    """(B,) or (B, H, W), or a list of B."""
    mask: Tensor | None = None
    unreadable: list[UnreadableSample] = field(default_factory=list)
    failure: str = ""

    def __getstate__(self) -> dict[str, Any]:
        # A tensor that leaves a worker takes an open file until it is freed, and a process may have about a thousand of
        # them. Objects have several small tensors each, so lists of targets travel as bytes (pytorch issue 973).
        targets = _map_arrays(self.targets, lambda it: it.numpy()) if isinstance(self.targets, list) else self.targets
        return {**self.__dict__, "targets": targets}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.targets, list):
            self.targets = _map_arrays(self.targets, torch.from_numpy)


def _map_arrays(targets: list[Any], change: Callable[[Any], Any]) -> list[Any]:
    """``change`` applied to all tensors or arrays in a list of label maps or of ``Objects``."""
    return [
        {name: change(value) for name, value in target.items()} if isinstance(target, dict) else change(target)
        for target in targets
    ]


Transform = Callable[[Sample[Any]], tuple[Any, Any]]
"""A sample to a model's input and target, with draws from the global generators of Python, NumPy and torch."""

Collate = Callable[[Sequence[tuple[Any, Any]]], tuple[Any, Any, Tensor | None]]
"""Transformed samples to the inputs, targets and mask of a batch."""


def stack(samples: Sequence[tuple[Any, Any]]) -> tuple[Tensor, Tensor, None]:
    """Inputs and targets of one shape as tensors with a batch axis; class indices become (B,) int64."""
    targets = [target for _, target in samples]
    stacked = torch.stack(targets) if isinstance(targets[0], Tensor) else torch.tensor(targets)
    return torch.stack([image for image, _ in samples]), stacked, None


def as_lists(samples: Sequence[tuple[Any, Any]]) -> tuple[list[Any], list[Any], None]:
    """Lists of B inputs and targets, which may differ in size."""
    return [image for image, _ in samples], [target for _, target in samples], None


class BatchBuilder(TorchDataset[WorkerBatch]):
    """Builds one batch from the positions of its samples.

    ``replace`` says what happens to an unreadable sample of a dataset that allows to skip it: the next readable one
    takes its place, or it is left out. Evaluation leaves out, because a sample must not be counted twice.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Transform,
        *,
        seed: int = 0,
        collate: Collate = stack,
        replace: bool = True,
    ) -> None:
        self.dataset, self.transform, self.seed, self.collate, self.replace = dataset, transform, seed, collate, replace

    def __getitem__(self, positions: Sequence[SamplePosition]) -> WorkerBatch:
        try:
            return self.build(positions)
        except InputError as error:
            # DataLoader raises a worker's exception again with the worker's traceback as its message, so the message
            # of a mistake travels as data
            return WorkerBatch(failure=str(error))

    def build(self, positions: Sequence[SamplePosition]) -> WorkerBatch:
        """The batch of these positions; raises ``InputError``."""
        unreadable: list[UnreadableSample] = []
        load = load_or_replace if self.replace else load_or_leave_out
        transformed = []
        for epoch, index in positions:
            sample = load(self.dataset, index, unreadable)
            if sample is not None:
                # by the index asked for, also where another sample takes its place: it must not get that one's draws
                seed_sample(self.seed, epoch, index)
                transformed.append(self.transform(sample))
        return WorkerBatch(*self.collate(transformed), unreadable)


def load_or_replace(dataset: Dataset[Target], index: int, unreadable: list[UnreadableSample]) -> Sample[Target]:
    """The sample at ``index``, or the next readable one where unreadable ones may be skipped.

    Those that were skipped are added to ``unreadable``. Raises ``DataError``.
    """
    for step in range(len(dataset)):
        try:
            return dataset.load((index + step) % len(dataset))
        except UnreadableImage as error:
            _skip(dataset, error, "the next image takes its place", unreadable)
    raise DataError("no image of the dataset is readable")


def load_or_leave_out(
    dataset: Dataset[Target], index: int, unreadable: list[UnreadableSample]
) -> Sample[Target] | None:
    """The sample at ``index``, or None where it is unreadable and may be skipped; raises ``DataError``."""
    try:
        return dataset.load(index)
    except UnreadableImage as error:
        _skip(dataset, error, "it is left out", unreadable)
        return None


def _skip(dataset: Dataset[Any], error: UnreadableImage, effect: str, unreadable: list[UnreadableSample]) -> None:
    if not dataset.skips_bad:
        raise DataError(
            f"{error}. Repair or remove it, or leave such files out with --data.on-bad-image skip"
        ) from None
    unreadable.append(UnreadableSample(error.name, f"{error}; {effect}"))
