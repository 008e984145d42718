"""Run folders made up for the tests, in the layout that a training run writes."""

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

COLUMNS = (
    "epoch", "update", "lr", "seconds", "images_per_second", "train_loss", "train_top1", "loss", "top1", "top5",
    "ema_loss", "ema_top1", "ema_top5",
)  # fmt: skip
TOP1 = (0.25, 0.625, 0.875, 0.8125)


def config(classes: Sequence[str], **changes: Any) -> dict[str, Any]:
    recipe = Recipe().to_dict()
    recipe["optimisation"] |= {"epochs": 4, "lr": 0.0023}
    stage = {"depth": 2, "width": 64, "mixer": {"name": "pooling", "args": {"kernel": 5}}, "mlp": {"ratio": 4.0}}
    stage["embedding"] = {"kind": "conv", "kernel": 7, "stride": 4, "padding": 2}
    data = {"source": "digits", "train": 1437, "val": 360, "skipped": [["cat/broken.jpg", "image file is truncated"]]}
    return {
        "recipe": recipe, "name": "poolformer_s12", "spec": {"stages": [stage], "in_chans": 1},
        "classes": list(classes), "preprocessing": {"size": [8, 8], "crop": 1.0, "interpolation": "bicubic"},
        "version": "0.1.0",
        "command": "metaformer train --optimisation.epochs 4", "data": data, "parameters": 11_411_402,
        "macs": 412_331_008, "machine": {"cpu": "An Old Abacus", "threads": 2, "torch": "2.15.0"},
    } | changes  # fmt: skip


def write_config(folder: Path, classes: Sequence[str] = ("cat", "dog"), **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config(classes, **changes)))


def write_metrics(folder: Path, top1: Sequence[Any] = TOP1, **fixed: Any) -> None:
    """A row an epoch; ``fixed`` sets a column to one value, such as ``ema_top1=""``."""
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for epoch, share in enumerate(top1, start=1):
            loss = 2.0 / epoch
            row = dict.fromkeys(COLUMNS, loss) | {"epoch": epoch, "update": 12 * epoch, "lr": 1e-3 / epoch}
            row |= {"seconds": 30.0, "images_per_second": 512.0, "top1": share, "top5": 0.9, "train_top1": 0.3}
            writer.writerow(row | {"ema_top1": 0.5, "ema_top5": 0.9} | fixed)


def evaluation(classes: Sequence[str], pictures: int = 6, wrong_every: int = 3) -> dict[str, Any]:
    """Each class has 10 pictures; one of the first class is taken for the last."""
    number = len(classes)
    confusion = 10 * np.eye(number, dtype=int)
    confusion[0, 0], confusion[0, -1] = 9, 1
    samples = []
    for i in range(pictures):
        label = i % number
        other = (label + 1) % number
        first, second = (other, label) if i % wrong_every == 0 else (label, other)
        top = [[first, 0.5 + 0.01 * i], [second, 0.25]]
        samples.append({"name": f"digits/{i}", "label": label, "top": top, "picture": png(i)})
    figures = {"loss": 0.4321, "top1": float(np.trace(confusion) / confusion.sum()), "top5": 1.0}
    return {"figures": figures, "classes": list(classes), "confusion": confusion.tolist(), "samples": samples}


def write_evaluation(folder: Path, classes: Sequence[str] = ("cat", "dog"), **changes: Any) -> None:
    (folder / "evaluation.json").write_text(json.dumps(evaluation(classes) | changes))


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
