"""A tiny model, a tiny loader and a trainer of both, for the tests."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from metaformer.recipe import Machine, OptimizerConfig, Recipe
from metaformer.tasks.classification.objective import ClassificationObjective
from metaformer.training.observer import Observer
from metaformer.training.trainer import Trainer
from metaformer.types import Batch, Objective

CLASSES = 3


class TinyNet(nn.Module):
    """A convolution, a residual with dropout and drop path, and where asked batch statistics."""

    def __init__(self, drop: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.mix = nn.Sequential(nn.Conv2d(6, 6, 1), nn.GELU(), nn.Dropout(drop))
        self.drop_path = DropPath(drop)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.stem(images))
        x = x + self.drop_path(self.mix(x))
        return self.head(x.mean((2, 3)))


class TinyLoader:
    """``count`` random images whose brightness tells their class, shuffled by the epoch where asked."""

    def __init__(self, count: int, batch_size: int, shuffle: bool = False, rank: int = 0, world: int = 1) -> None:
        generator = torch.Generator().manual_seed(count)
        self.targets = torch.arange(count) % CLASSES
        self.images = torch.randn(count, 1, 8, 8, generator=generator) + self.targets[:, None, None, None]
        self.batch_size, self.shuffle, self.rank, self.world = batch_size, shuffle, rank, world

    def __len__(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = torch.arange(len(self.targets))
        if self.shuffle:
            order = torch.randperm(len(order), generator=torch.Generator().manual_seed(epoch))
        for part in order.split(self.batch_size)[start:]:
            mine = part.tensor_split(self.world)[self.rank]
            yield Batch(self.images[mine], self.targets[mine])


def tiny_trainer(
    folder: Path,
    *,
    model: nn.Module | None = None,
    images: int = 36,
    accumulation: int = 1,
    machine: Machine | None = None,
    observers: Sequence[Any] = (),
    objective: Objective | None = None,
    rank: int = 0,
    world: int = 1,
    **optimizer: Any,
) -> Trainer:
    """A trainer of 12-image updates; the model's random start is always the same."""
    torch.manual_seed(0)
    model = TinyNet() if model is None else model
    settings = {"epochs": 2, "batch_size": 12, "lr": 1e-2, "accumulation": accumulation, **optimizer}
    recipe = Recipe(
        optimizer=OptimizerConfig(**settings), machine=machine or Machine(device="cpu", save_minutes=60), seed=3
    )
    size = recipe.optimizer.batch_size // accumulation
    return Trainer(
        model,
        objective or ClassificationObjective(CLASSES, recipe.optimizer.label_smoothing),
        recipe,
        TinyLoader(images, size, shuffle=True, rank=rank, world=world),
        TinyLoader(15, 4, rank=rank, world=world),
        folder,
        observers=observers,
    )


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    """A copy of the trained weights and, under ``ema.``, of the averaged ones."""
    state = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    if trainer.average:
        state |= {f"ema.{name}": tensor.clone() for name, tensor in trainer.average.state_dict().items()}
    return state


def same_bits(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Losses(Observer):
    """Keeps every record it gets."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.epochs: list[Any] = []
        self.calls: list[str] = []

    def started(self, trainer: Trainer) -> None:
        self.calls.append("started")

    def stepped(self, step: Any) -> None:
        self.steps.append(step)

    def epoch_ended(self, epoch: Any) -> None:
        self.epochs.append(epoch)

    def saved(self, path: Path) -> None:
        self.calls.append(path.name)

    def finished(self) -> None:
        self.calls.append("finished")
