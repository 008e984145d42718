"""One resumable run on the digits, to be run in a process of its own that can be killed.

Everything random is on: dropout, drop path, shifts, Mixup, random erasing; two micro-batches an update, averaged
weights, clipping, warm-up.
"""

import time
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from metaformer.data.loading.loader import Loader
from metaformer.data.loading.schedule import BatchSchedule
from metaformer.data.sources import open_labeled
from metaformer.data.transforms.image import OnInput, evaluation_transform, training_transform
from metaformer.data.transforms.mixup import Mixup
from metaformer.errors import RunError
from metaformer.model.build import build
from metaformer.recipe import Augmentation, DataConfig, Machine, OptimizerConfig, Recipe
from metaformer.spec.model import EmbeddingSpec, HeadSpec, MLPSpec, ModelSpec, StageSpec
from metaformer.tasks.classification.objective import ClassificationObjective
from metaformer.training.interrupt import RunInterrupted
from metaformer.training.journal import Events, MetricsFile
from metaformer.training.observer import Observer
from metaformer.training.trainer import Trainer
from metaformer.types import Batch, Preprocessing

RECIPE = Recipe(
    augmentation=Augmentation(policy="small", hflip=0.0, erase=0.3, mixup=0.2, mix_probability=0.5),
    optimizer=OptimizerConfig(
        epochs=2, batch_size=64, accumulation=2, lr=1e-2, warmup_epochs=0.5, clip_grad=1.0, ema_decay=0.95
    ),
    machine=Machine(device="cpu", threads=1, save_steps=3),
    seed=11,
)
SPEC = ModelSpec(
    stages=(
        StageSpec(depth=1, width=16, embedding=EmbeddingSpec(stride=1), mlp=MLPSpec(ratio=2.0, dropout=0.1)),
        StageSpec(depth=2, width=24, mlp=MLPSpec(ratio=2.0, dropout=0.1)),
    ),
    head=HeadSpec(dropout=0.1),
    num_classes=10,
    in_chans=1,
    img_size=(8, 8),
    drop_path_rate=0.2,
)
PIXELS = Preprocessing(size=(8, 8), crop=1.0, mean=(0.3,), std=(0.4,))


class First:
    """The first ``length`` images of a set."""

    skips_bad = False

    def __init__(self, images: Any, length: int) -> None:
        self.images, self.labels, self.load, self.name = (
            images,
            images.labels[:length],
            images.load,
            images.name,
        )

    def __len__(self) -> int:
        return len(self.labels)


class SavedFiles(Observer):
    """Sends the name of each file that is saved, so that a test can choose its moment.

    With ``room`` no file of the process can grow beyond so many bytes once two states are saved: a full disk.
    """

    def __init__(self, events: Connection, room: int | None) -> None:
        self.events, self.room, self.states = events, room, 0

    def saved(self, path: Path) -> None:
        self.events.send(path.name)
        self.states += path.name == "checkpoint.safetensors"
        if self.room is not None and self.states == 2:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (self.room, resource.RLIM_INFINITY))


def run(folder: Path, resume: bool, room: int | None, hangs_at: int | None, events: Connection) -> None:
    """Train; sends ``part`` before each forward pass, then ``done``, or what ended the run before.

    Before forward pass number ``hangs_at`` it waits for a signal.
    """
    torch.manual_seed(RECIPE.seed)
    mixing = Mixup(RECIPE.augmentation, 10)
    sets = open_labeled(DataConfig())

    parts = count(1)

    def announced(batch: Batch) -> Batch:
        events.send("part")
        if next(parts) == hangs_at:
            while not trainer._interrupts.received:
                time.sleep(0.01)
        return mixing(batch)

    trainer = Trainer(
        build(SPEC),
        ClassificationObjective(10),
        RECIPE,
        Loader(
            First(sets.train, 330),  # 11 micro-batches, the last one small: the last update has one micro-batch
            OnInput(training_transform(PIXELS, RECIPE.augmentation, 1)),
            BatchSchedule(330, 32, seed=RECIPE.seed, shuffle=True),
        ),
        Loader(First(sets.val, 70), OnInput(evaluation_transform(PIXELS, 1)), BatchSchedule(70, 32)),
        folder,
        mixing=announced,
        observers=[SavedFiles(events, room), MetricsFile(), Events()],
        metadata={"format": "pt"},
    )
    try:
        trainer.fit(resume=resume)
        events.send("done")
    except RunInterrupted as interruption:
        events.send(interruption.exit_status)
    except RunError as error:
        events.send(str(error))
