"""Run folders made up for the tests, in the layout that training writes."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metaformer.recipe import Recipe
from metaformer.run.config import DataSummary, MachineSummary, RunConfig, SkippedFile
from metaformer.spec.mixer import MixerSpec
from metaformer.spec.model import EmbeddingSpec, MLPSpec, ModelSpec, StageSpec
from metaformer.tasks.classification.evaluation import ClassificationEvaluation, Sample
from metaformer.types import Preprocessing

COLUMNS = (
    "epoch", "update", "lr", "seconds", "samples_per_second", "train_loss", "train_top1", "loss", "top1", "top5",
    "ema_loss", "ema_top1", "ema_top5",
)  # fmt: skip
TOP1 = (0.25, 0.625, 0.875, 0.8125)
UNMEASURED: dict[str, dict[str, str]] = {
    "no EMA": {"ema_loss": "", "ema_top1": "", "ema_top5": ""},
    "mixing": {"train_top1": ""},
    "diverged": {"train_loss": "nan", "loss": "nan", "top1": "nan", "ema_top1": "nan", "ema_loss": "nan"},
    "no rate": {"lr": ""},
    "no times": {"seconds": "", "samples_per_second": ""},
}
"""Columns of metrics.csv that some runs do not measure."""


def config(classes: Sequence[str] = ("cat", "dog"), **changes: Any) -> RunConfig:
    stem = EmbeddingSpec(kernel=7, stride=4, padding=2)
    pooling = MixerSpec(name="pooling", args={"kernel": 5})
    stages = (StageSpec(depth=2, width=64, mixer=pooling, mlp=MLPSpec(ratio=4.0), embedding=stem),)
    given: dict[str, Any] = {
        "recipe": Recipe().updated({"optimizer": {"epochs": 4, "lr": 0.0023}}),
        "name": "poolformer_s12",
        "spec": ModelSpec(stages=stages, in_chans=1, num_classes=len(classes), img_size=(8, 8)),
        "preprocessing": Preprocessing(size=(8, 8), crop=1.0, mean=(0.5,), std=(0.5,)),
        "classes": tuple(classes),
        "data": DataSummary(
            source="digits", train=1437, val=360,
            skipped=(SkippedFile(path="cat/broken.jpg", reason="image file is truncated"),),
        ),
        "parameters": 11_411_402,
        "macs": 412_331_008,
        "machine": MachineSummary(cpu="An Old Abacus", threads=2, torch="2.15.0"),
        "version": "0.1.0",
        "command": "metaformer train --optimizer.epochs 4",
    }  # fmt: skip
    return RunConfig(**given | changes)


def write_config(folder: Path, classes: Sequence[str] = ("cat", "dog"), **changes: Any) -> None:
    config(classes, **changes).write(folder)


def write_metrics(folder: Path, top1: Sequence[Any] = TOP1, **fixed: Any) -> None:
    """A row an epoch; ``fixed`` sets a column to one value, such as ``ema_top1=""``."""
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for epoch, share in enumerate(top1, start=1):
            loss = 2.0 / epoch
            row = dict.fromkeys(COLUMNS, loss) | {"epoch": epoch, "update": 12 * epoch, "lr": 1e-3 / epoch}
            row |= {"seconds": 30.0, "samples_per_second": 512.0, "top1": share, "top5": 0.9, "train_top1": 0.3}
            writer.writerow(row | {"ema_top1": 0.5, "ema_top5": 0.9} | fixed)


def evaluation(classes: Sequence[str], images: int = 6, wrong_every: int = 3) -> ClassificationEvaluation:
    """Each class has 10 images; one of the first class is taken for the last."""
    number = len(classes)
    confusion = 10 * np.eye(number, dtype=int)
    confusion[0, 0], confusion[0, -1] = 9, 1
    samples = []
    for i in range(images):
        label = i % number
        other = (label + 1) % number
        first, second = (other, label) if i % wrong_every == 0 else (label, other)
        top = ((first, 0.5 + 0.01 * i), (second, 0.25))
        samples.append(Sample(name=f"digits/{i}", label=label, top=top, thumbnail=png(i)))
    return ClassificationEvaluation(
        metrics={"loss": 0.4321, "top1": float(np.trace(confusion) / confusion.sum()), "top5": 1.0},
        classes=tuple(classes),
        images=10 * number,
        confusion=confusion.tolist(),
        samples=tuple(samples),
    )


def write_evaluation(folder: Path, classes: Sequence[str] = ("cat", "dog"), **changes: Any) -> None:
    """``changes`` are written as they are, whether they fit or not."""
    (folder / "evaluation.json").write_text(json.dumps(evaluation(classes).to_dict() | changes))


def png(seed: int, size: tuple[int, int] = (8, 8)) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def run_folder(folder: Path, classes: Sequence[str] = ("cat", "dog")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, classes)
    write_metrics(folder)
    write_evaluation(folder, classes)
    return folder
