"""The results of a run as sentences and table rows, read from its files."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...render.numbers import capital, count, duration, known, metric_text, number, short
from ...training.journal import METRICS
from ..config import CONFIG
from ..folder import EVALUATION
from .files import MetricsTable, RunFiles

Row = tuple[str, str]
_SOURCES = (CONFIG, METRICS, EVALUATION)


def title(run: RunFiles) -> str:
    """``poolformer_s12 on digits``, or the folder's name where config.json is missing."""
    return f"{run.config.name} on {run.config.data.source}" if run.config else run.folder.resolve().name


def verdict(run: RunFiles) -> str:
    """The main result in one sentence."""
    best, primary = run.best, run.primary
    if best is None:
        measured = run.evaluation.metrics.get(primary.name) if run.evaluation else None
        if not known(measured):
            return f"No {primary.label} was measured yet."
        return f"Evaluated at {metric_text(primary, measured)} {primary.label}."
    which = ", with averaged weights (EMA)" if best.averaged else ""
    cost = ""
    if run.config:
        cost = f"; {short(run.config.parameters)} parameters and {short(run.config.macs)} multiply-adds per image"
    value = f"{primary.label} {metric_text(primary, best.value)}"
    return f"Best validation {value} after epoch {best.epoch} of {_epochs(run)}{which}{cost}."


def _epochs(run: RunFiles) -> str:
    """The number of planned epochs, and of finished ones where there are fewer."""
    done = int(run.metrics.epochs[-1])
    if run.config is None:
        return count(done)
    planned = run.config.recipe.optimizer.total_epochs
    return count(planned) if done >= planned else f"{count(planned)} ({count(done)} done)"


def tiles(run: RunFiles) -> list[Row]:
    """The most important numbers, for the top of the page."""
    best, primary, config = run.best, run.primary, run.config
    return [
        (f"Best {primary.label}", metric_text(primary, best.value if best else None)),
        ("Best epoch", count(best.epoch if best else None)),
        ("Parameters", short(config.parameters if config else None)),
        ("MACs per image", short(config.macs if config else None)),
        ("Training time", duration(training_seconds(run.metrics))),
        ("Samples per second", count(throughput(run.metrics))),
    ]


def training_seconds(metrics: MetricsTable) -> float | None:
    """Seconds of all epochs, evaluations included."""
    return float(np.nansum(metrics.column("seconds"))) if metrics.has("seconds") else None


def throughput(metrics: MetricsTable) -> float | None:
    """Training samples per second of the median epoch."""
    # the median, because the first epoch is slower (workers start, caches fill)
    return float(np.nanmedian(metrics.column("samples_per_second"))) if metrics.has("samples_per_second") else None


def notes(run: RunFiles) -> list[str]:
    """Sentences on missing files and on epochs without a finite loss."""
    sentences = []
    if run.config is None:
        sentences.append(f"{CONFIG} is missing: recipe, data, machine and model size are not known.")
    if not len(run.metrics):
        sentences.append(f"{METRICS} has no epoch yet: learning curves appear after the first epoch.")
    if run.evaluation is None:
        sentences.append(f"{EVALUATION} does not exist yet: tables and sample predictions appear after the evaluation.")
    metrics = run.metrics
    losses = metrics.column("loss") if metrics.has("loss") else metrics.column("train_loss")
    epochs = ", ".join(f"{epoch:g}" for epoch in metrics.epochs[~np.isfinite(losses)])
    return [*sentences, f"The loss was not finite after epoch {epochs}."] if epochs else sentences


def metric_table(run: RunFiles) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Column heads and rows: each metric at the best and at the last epoch."""
    metrics, best = run.metrics, run.best
    if not len(metrics):
        return [], []
    last = len(metrics) - 1
    columns: list[tuple[str, int]] = [(f"Last epoch ({metrics.epochs[last]:g})", last)]
    if best is not None:
        columns.insert(0, (f"Best epoch ({best.epoch})", best.row))
    labels = column_labels(run)
    rows = [
        (label, [column_text(run, name, metrics.column(name)[row]) for _, row in columns])
        for name, label in labels.items()
        if metrics.has(name)
    ]
    return [head for head, _ in columns], rows


def column_labels(run: RunFiles) -> dict[str, str]:
    """Labels for the columns of metrics.csv: training, validation, averaged weights."""
    defined = run.task.metrics
    labels = {"train_loss": "Training loss"} | {f"train_{m.name}": f"Training {m.label}" for m in defined}
    labels |= {m.name: f"Validation {m.label}" for m in defined}
    return labels | {f"ema_{m.name}": f"Validation {m.label} (EMA)" for m in defined}


def column_text(run: RunFiles, name: str, value: float) -> str:
    """A formatted value of metrics.csv: a metric by its unit, counts as whole numbers, others with four digits."""
    base_name = name.removeprefix("ema_").removeprefix("train_")
    metric = next((metric for metric in run.task.metrics if metric.name == base_name), None)
    if metric is not None:
        return metric_text(metric, value)
    if name in ("epoch", "update", "samples_per_second"):
        return count(value)
    return duration(value) if name == "seconds" else number(value)


def epoch_table(run: RunFiles) -> dict[str, list[Any]] | None:
    """All epochs with all measured values; None before the first epoch."""
    metrics = run.metrics
    names = [name for name in metrics.columns if metrics.has(name)]
    if not len(metrics):
        return None
    rows = [[column_text(run, name, metrics.column(name)[i]) for name in names] for i in range(len(metrics))]
    return {"heads": [name.replace("_", " ") for name in names], "rows": rows}


def evaluation_rows(run: RunFiles) -> list[Row]:
    """The metrics of evaluation.json, the number of images, and the weights file."""
    if run.evaluation is None:
        return []
    defined = {metric.name: metric for metric in run.task.metrics}
    rows = []
    for name, value in run.evaluation.metrics.items():
        metric = defined.get(name)  # a file of a newer version may have more metrics
        text = metric_text(metric, value) if metric else number(value)
        rows.append((capital(metric.label if metric else name), text))
    rows += [("Images", count(run.evaluation.images))] if run.evaluation.images else []
    return [*rows, ("Weights", run.evaluation.weights)] if run.evaluation.weights else rows


def sources(run: RunFiles) -> str:
    """The names of the files that the page is based on."""
    return ", ".join(name for name in _SOURCES if (run.folder / name).is_file()) or "an empty run folder"
