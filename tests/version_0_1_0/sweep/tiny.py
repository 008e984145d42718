
"""A frame of a few thousand weights, and mixers that get a worker into trouble."""

import os
import resource
import signal
from pathlib import Path

from torch import nn

from metaformer.ablation import Base, Change, Plan
from metaformer.recipe import Augmentation, Machine, Optimisation, Recipe

HERE = Path('sweep')


class Trouble(nn.Module):
    """Mixes nothing, and in training sends for trouble before its tenth batch."""

    def __init__(self, width):
        super().__init__()
        self.batches = 0

    def forward(self, x, grid, mask=None):
        self.batches += self.training and x.device.type == "cpu" and len(x) > 8
        if self.batches == 10:
            self.trouble()
        return x

    def trouble(self):
        """Nothing."""


class Once(Trouble):
    def trouble(self):
        if not (HERE / "died").exists():
            (HERE / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Always(Trouble):
    def trouble(self):
        os._exit(7)


class Full(Trouble):
    def trouble(self):
        if (HERE / "full").exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))


class Void(Trouble):
    def forward(self, x, grid, mask=None):
        return x * float("nan")


def plan():
    return Plan(
        name="tiny",
        base=Base(
            model="poolformer_s12", width=0.125, change=Change(name="shallow", stages={"depth": 1})
        ),
        recipe=Recipe(
            augmentation=Augmentation(policy="small"),
            optimisation=Optimisation(epochs=2, batch_size=64, lr=5e-3, warmup_epochs=0),
            machine=Machine(device="cpu", threads=1, save_steps=5),
        ),
        changes=(Change(name="identity", mixers="identity"), Change(name="wide pool", mixers="pooling(kernel=5)", recipe={"optimisation": {"lr": 2e-3}}), Change(name="void", mixers=Void, published=70.0),),
    )
