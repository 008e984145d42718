"""Tiny sweeps on the digits, and their results. The plan's file has mixers that get their worker into trouble."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from metaformer.ablation import ablate as ablations

PLAN = '''
"""Models of a few thousand weights, and mixers that get a worker into trouble."""

import os
import resource
import signal
from pathlib import Path

from torch import nn

from metaformer.ablation import Base, Change, Plan
from metaformer.recipe import Augmentation, Machine, OptimizerConfig, Recipe

HERE = Path({here!r})


class Trouble(nn.Module):
    """Mixes nothing, and in training calls ``trouble`` before its tenth batch."""

    def __init__(self, width):
        super().__init__()
        self.batches = 0

    def forward(self, x, grid, mask=None):
        self.batches += self.training and x.device.type == "cpu" and len(x) > 8
        if self.batches == 10:
            self.trouble()
        return x

    def trouble(self):
        pass


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
            model="poolformer_s12", width=0.125, change=Change(name="shallow", stages={{"depth": 1}})
        ),
        recipe=Recipe(
            augmentation=Augmentation(policy="small"),
            optimizer=OptimizerConfig(epochs={epochs}, batch_size=64, lr=5e-3, warmup_epochs=0),
            machine=Machine(device="cpu", threads=1, save_steps=5),
        ),
        changes=({changes}),
    )
'''
CHANGES = (
    'Change(name="identity", mixers="identity"), '
    'Change(name="wide pool", mixers="pooling(kernel=5)", recipe={"optimizer": {"lr": 2e-3}}), '
)


def written_plan(folder: Path, changes: str = CHANGES, epochs: int = 2) -> Path:
    """A plan's file; its mixers write their markers beside it."""
    path = folder / "tiny.py"
    path.write_text(PLAN.format(here=str(folder), changes=changes, epochs=epochs))
    return path


def swept(plan: Path, out: Path, **choices: Any) -> str:
    """Run a plan without a report; what was printed."""
    printed = io.StringIO()
    choices = {"workers": 2, "seeds": 1, **choices}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "_report", lambda out, console: out)
        ablations.ablate(str(plan), out, console=Console(file=printed, width=200), **choices)
    return printed.getvalue()


def events(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """The journal, all of it or the events of some kinds."""
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if not kinds or event["event"] in kinds]


def measured(folder: Path) -> dict[str, Any]:
    """Everything measured in a sweep's runs that have an evaluation, but the speed."""
    from metaformer.run.report.files import read_run
    from metaformer.training.trainer import TIMING

    found = {}
    for path in sorted((folder / "runs").glob("*/seed-*")):
        run = read_run(path)
        if run.evaluation is None:
            continue
        rows = [line.split(",") for line in (path / "metrics.csv").read_text().splitlines()]
        kept = [i for i, name in enumerate(rows[0]) if name not in TIMING]
        curve = [[row[i] for i in kept] for row in rows]
        found[f"{path.parent.name}/{path.name}"] = (dict(run.evaluation.metrics), curve)
    return found
