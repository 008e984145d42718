"""Run folders and sweeps made up for the tests, in the layout that training writes."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
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

Result = float | str | None
"""Of a run in a sweep: its top-1 as a share, why it diverged, or None where it is missing."""

COLUMNS = (
    "epoch", "update", "lr", "seconds", "samples_per_second", "train_loss", "train_top1", "loss", "top1", "top5",
    "ema_loss", "ema_top1", "ema_top5",
)  # fmt: skip
TOP1 = (0.25, 0.625, 0.875, 0.8125)


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


def stage(mixer: str = "pooling", norm: str = "group", mlp: bool = True, residual: bool = True) -> dict[str, Any]:
    """One stage of a spec, with what a change takes away."""
    return {
        "depth": 2, "width": 64, "mixer": {"name": mixer, "args": {}}, "mlp": {"ratio": 4.0} if mlp else None,
        "norm": {"kind": norm}, "residual": {"on": residual}, "embedding": {"kind": "conv", "kernel": 7, "stride": 4},
    }  # fmt: skip


def variant(name: str, group: str, published: float | None = None, about: str = "", **parts: Any) -> dict[str, Any]:
    """A row of a plan; ``parts`` are those of ``stage``."""
    slug = name.lower().replace(" ", "-").replace(",", "")
    spec = {"stages": [stage(**parts)]}
    return {
        "name": name, "slug": slug, "group": group, "about": about, "published": published, "spec": spec,
        "recipe": Recipe().to_dict(),
    }  # fmt: skip


VARIANTS = (
    variant("PoolFormer", "base", 77.2),
    variant("identity", "token mixer", 74.3, "tokens are not mixed", mixer="identity"),
    variant("attention", "token mixer", 78.3, mixer="attention"),
    variant("BatchNorm", "norm", 76.4, norm="batch"),
    variant("no residual", "other", 0.1, "no <shortcut>", residual=False),
    variant("no channel MLP", "other", 5.7, mlp=False),
)
RESULTS: dict[str, Sequence[Result]] = {
    "PoolFormer": (0.96, 0.97, 0.965),
    "identity": (0.93, 0.942, 0.936),
    "attention": (0.961, 0.975, 0.97),
    "BatchNorm": (0.955, 0.968, 0.966),
    "no residual": ("the loss is nan in epoch 1, update 3 of 40", 0.2, "the loss is nan in epoch 2, update 1 of 40"),
    "no channel MLP": (0.5, 0.55, 0.52),
}


def plan(variants: Sequence[Mapping[str, Any]] = VARIANTS, **changes: Any) -> dict[str, Any]:
    return {
        "format": 1, "name": "paper", "title": "What makes PoolFormer work", "question": "What does it need?",
        "source": "MetaFormer, table 5", "base": VARIANTS[0]["name"], "variants": list(variants),
        "seeds": [0, 1, 2], "data": {"source": "digits", "classes": list("0123456789"), "train": 1437, "val": 360},
        "command": "metaformer ablate paper --seeds 3", "version": "0.1", "notes": ["SiLU was <left> as it is"],
    } | changes  # fmt: skip


def sweep_folder(
    folder: Path,
    variants: Sequence[Mapping[str, Any]] = VARIANTS,
    results: Mapping[str, Sequence[Result]] = RESULTS,
    pace: float = 1.0,
    **changes: Any,
) -> Path:
    """A sweep of two workers without a wait; ``pace`` slows its clock and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    content = plan(variants, **{"base": variants[0]["name"], **changes})
    (folder / "plan.json").write_text(json.dumps(content))
    events: list[dict[str, Any]] = [{"time": 1000.0, "event": "sweep started", "workers": 2, "where": "this machine"}]
    for entry in variants:
        for seed, result in zip(content["seeds"], results[entry["name"]], strict=True):
            if result is not None:
                events += _sweep_run(folder, entry, seed, result, pace)
    wall = 125.0 * pace * (len(events) - 1) / 4
    events.append({"time": 1000.0 + wall, "event": "sweep ended", "seconds": wall})
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def _sweep_run(
    folder: Path, entry: Mapping[str, Any], seed: int, result: float | str, pace: float
) -> list[dict[str, Any]]:
    run = f"{entry['slug']}/seed-{seed}"
    place = folder / "runs" / run
    place.mkdir(parents=True, exist_ok=True)
    spec = ModelSpec.from_dict(entry["spec"] | {"num_classes": 10})
    write_config(place, list("0123456789"), name=entry["name"], commit="0123abc", spec=spec)
    started = {"time": 1000.0, "event": "started", "run": run, "attempt": 1}
    speeds = {"seconds": 30.0 * pace, "samples_per_second": 512.0 / pace + seed}
    if isinstance(result, str):
        write_metrics(place, (0.11,), **speeds)
        return [started, {"time": 1001.0, "event": "broke down", "run": run, "reason": result, "seconds": 40.0 * pace}]
    top1 = [result * share for share in (0.5, 0.8, 0.95, 1.0)]
    write_metrics(place, top1, **speeds)
    write_evaluation(place, metrics={"loss": 0.4, "top1": result, "top5": 1.0}, confusion=[], samples=[])
    return [started, {"time": 1002.0, "event": "finished", "run": run, "seconds": 125.0 * pace}]
