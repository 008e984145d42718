"""One of several processes that train together, as ``torchrun`` starts them; also a script for ``torchrun`` itself."""

import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from tiny_training import Losses, TinyNet, tiny_trainer, weights_of

from metaformer.errors import RunError
from metaformer.recipe import Machine
from metaformer.training.device import processes
from metaformer.weights.safetensors_io import write_tensors


class BreaksOnOne(TinyNet):
    """Its outputs stop being numbers in the last process only."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rank, world = processes()
        return super().forward(images) * (float("nan") if self.training and rank == world - 1 else 1.0)


def train(folder: Path, breaks: bool = False) -> list[float]:
    """Train 40 tiny images in updates of 12 and two micro-batches; the last one has odd shares. Returns the losses."""
    torch.set_num_threads(1)
    rank, world = processes()
    seen = Losses()
    trainer = tiny_trainer(
        folder,
        model=BreaksOnOne() if breaks else None,
        images=40,
        accumulation=2,
        name="sgd",
        clip_grad=1.0,
        ema_decay=0.8,
        machine=Machine(device="cpu", save_steps=3),
        observers=[seen],
        rank=rank,
        world=world,
    )
    result = trainer.fit()
    write_tensors(folder / f"weights{rank}.safetensors", weights_of(trainer))
    return [*(step.loss for step in seen.steps), *(result.metrics[name] for name in ("loss", "top1", "ema_loss"))]


def one_of(folder: Path, rank: int, world: int, port: int, breaks: bool, events: Connection) -> None:
    """Be process ``rank`` of ``world``; sends the losses, or the message of the error."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"})
    try:
        events.send(train(folder, breaks))
    except RunError as error:
        events.send(str(error))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    print(train(Path(sys.argv[1])))
