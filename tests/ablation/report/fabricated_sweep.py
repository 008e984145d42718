"""Sweeps made up for the tests, in the files that a sweep and its runs write."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metaformer.ablation.folder import SweepPlan
from metaformer.ablation.plan import DataFacts, Variant, slug
from metaformer.evaluation import Evaluation
from metaformer.metrics import MetricDef
from metaformer.recipe import Recipe
from metaformer.run.config import DataSummary, MachineSummary, RunConfig
from metaformer.run.evaluate import write_evaluation
from metaformer.spec.mixer import MixerSpec
from metaformer.spec.model import EmbeddingSpec, MLPSpec, ModelSpec, NormSpec, ResidualSpec, StageSpec
from metaformer.tasks.classification.metrics import TOP1
from metaformer.types import Preprocessing

Result = float | str | None
"""Of a run: its metric, why it diverged, or None where it is missing."""

CLASSES = tuple("0123456789")
LOSS = MetricDef(name="loss", label="loss", unit="nats", better="lower")


def spec(mixer: str = "pooling", norm: str = "group", mlp: bool = True, residual: bool = True) -> ModelSpec:
    """A model of one stage, with what a change takes away."""
    stage = StageSpec(
        depth=2,
        width=64,
        embedding=EmbeddingSpec(kernel=7, stride=4),
        mixer=MixerSpec(name=mixer),
        mlp=MLPSpec() if mlp else None,
        norm=NormSpec(kind=norm),  # type: ignore[arg-type]
        residual=ResidualSpec(on=residual),
    )
    return ModelSpec(stages=(stage,), num_classes=10)


def variant(name: str, group: str, published: float | None = None, about: str = "", **parts: Any) -> Variant:
    """A variant of a plan; ``parts`` are those of ``spec``."""
    return Variant(
        name=name, slug=slug(name), group=group, about=about, published=published, spec=spec(**parts), recipe=Recipe()
    )


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
    "no residual": ("the loss is inf in epoch 1, update 3 of 40", 0.2, "the loss is inf in epoch 2, update 1 of 40"),
    "no channel MLP": (0.5, 0.55, 0.52),
}


def plan(variants: Sequence[Variant] = VARIANTS, **changes: Any) -> SweepPlan:
    fields: dict[str, Any] = {
        "name": "paper", "title": "What makes PoolFormer work", "question": "What does it need?",
        "source": "MetaFormer, table 5", "base": variants[0].name, "variants": tuple(variants), "seeds": (0, 1, 2),
        "data": DataFacts(classes=CLASSES, channels=1, side=8, train=1437, val=360, source="digits"),
        "metric": TOP1, "chance": 0.1, "command": "metaformer ablate paper --seeds 3", "version": "0.1",
        "notes": ("SiLU was <left> as it is",),
    }  # fmt: skip
    return SweepPlan(**{**fields, **changes})


def sweep_folder(
    folder: Path,
    variants: Sequence[Variant] = VARIANTS,
    results: Mapping[str, Sequence[Result]] = RESULTS,
    pace: float = 1.0,
    **changes: Any,
) -> Path:
    """A sweep of two workers that never wait; ``pace`` slows its clock and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    content = plan(variants, **changes)
    (folder / "plan.json").write_text(content.to_json())
    events: list[dict[str, Any]] = [{"time": 1000.0, "event": "sweep started", "workers": 2, "where": "this machine"}]
    for one in variants:
        for seed, result in zip(content.seeds, results[one.name], strict=True):
            if result is not None:
                events += _run(folder, one, seed, result, pace, content.metric)
    wall = 125.0 * pace * (len(events) - 1) / 4
    events.append({"time": 1000.0 + wall, "event": "sweep ended", "seconds": wall})
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def _run(
    folder: Path, one: Variant, seed: int, result: float | str, pace: float, metric: MetricDef
) -> list[dict[str, Any]]:
    """The folder of a run, and its events in the journal."""
    run = f"{one.slug}/seed-{seed}"
    path = folder / "runs" / run
    path.mkdir(parents=True, exist_ok=True)
    RunConfig(
        recipe=one.recipe, name=one.name, spec=one.spec, preprocessing=Preprocessing(size=(8, 8)), classes=CLASSES,
        primary=metric.name, data=DataSummary(source="digits", train=1437, val=360), parameters=11_411_402,
        macs=412_331_008, machine=MachineSummary(cpu="An Old Abacus", threads=2, torch="2.15.0"), version="0.1.0",
        commit="0123abc",
    ).write(path)  # fmt: skip
    values: Sequence[float]
    started = {"time": 1000.0, "event": "started", "run": run, "attempt": 1}
    if isinstance(result, str):
        values, end = (0.11,), {"time": 1001.0, "event": "diverged", "reason": result, "seconds": 40.0 * pace}
    else:
        values = [result * share for share in (0.5, 0.8, 0.95, 1.0)]
        end = {"time": 1002.0, "event": "finished", "seconds": 125.0 * pace}
        write_evaluation(
            path, Evaluation(task="classification", metrics={metric.name: result}, classes=CLASSES, images=360)
        )
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("epoch", "seconds", "samples_per_second", metric.name))
        for epoch, value in enumerate(values, start=1):
            writer.writerow((epoch, 30.0 * pace, 512.0 / pace + seed, value))
    return [started, {**end, "run": run}]
