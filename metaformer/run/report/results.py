"""What came out of a run, as sentences and table rows ready to print: only read from its files, never measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...metrics import figure_name
from ...render.numbers import capital, count, duration, figure, known, percent, short
from .files import Best, Metrics, RunFiles, part

Row = tuple[str, str]

_WORDS = {
    "train_loss": "Training loss", "train_top1": "Training top-1", "loss": "Validation loss",
    "top1": "Validation top-1", "top5": "Validation top-5", "ema_loss": "Validation loss (EMA)",
    "ema_top1": "Validation top-1 (EMA)", "ema_top5": "Validation top-5 (EMA)",
}  # fmt: skip
_DENSE = (
    "box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75", "miou", "pixel_accuracy", "mean_accuracy",
)  # fmt: skip
"""What the table of epochs shows of detectors and segmenters; the evaluation's table has all of it."""
_SOURCES = ("config.json", "metrics.csv", "evaluation.json")


def title(run: RunFiles) -> str:
    """``poolformer_s12 on digits``, or the folder's name where config.json is missing."""
    name, source = run.config.get("name"), part(run.config, "data").get("source")
    return f"{name} on {source}" if name and source else str(name or run.folder.resolve().name)


def verdict(run: RunFiles) -> str:
    """The result in one sentence."""
    best = run.metrics.best
    if best is None:
        measured = run.evaluation.figures.get(judged(run)) if run.evaluation else None
        word = figure_name(judged(run))
        return f"Evaluated at {percent(measured)} {word}." if known(measured) else "No accuracy was measured yet."
    which = ", with averaged weights (EMA)" if best.averaged else ""
    size = [f"{short(run.config.get(key))} {word}" for key, word in _SIZES if known(run.config.get(key))]
    cost = f"; {' and '.join(size)}" if size else ""
    reached = f"{figure_name(best.figure)} {percent(best.share)} after epoch {best.epoch} of {_epochs(run)}"
    return f"Best validation {reached}{which}{cost}."


_SIZES = (("parameters", "parameters"), ("macs", "multiply-adds an image"))


def judged(run: RunFiles) -> str:
    """The figure that decides, by what was measured or, before that, by the task."""
    if run.metrics.best is not None:
        return run.metrics.best.figure
    measured = run.evaluation.figures if run.evaluation else {}
    task = str(part(run.config, "recipe").get("task"))
    usual = {"detection": "box_ap", "segmentation": "miou"}.get(task, "top1")
    return next((name for name in ("mask_ap", "box_ap", "miou") if name in measured), usual)


def _epochs(run: RunFiles) -> str:
    """Planned epochs, and how many are done where that is fewer."""
    done = int(run.metrics.epochs[-1])
    optimizer = part(part(run.config, "recipe"), "optimizer")
    planned = optimizer.get("epochs")
    if not known(planned):
        return count(done)
    planned += optimizer.get("cooldown_epochs") or 0
    return count(planned) if done >= planned else f"{count(planned)} ({count(done)} done)"


def tiles(run: RunFiles) -> list[Row]:
    """The few figures that people look for first."""
    metrics, best = run.metrics, run.metrics.best
    return [
        (f"Best {figure_name(judged(run))}", percent(best.share if best else None)),
        ("Best epoch", count(best.epoch if best else None)),
        ("Parameters", short(run.config.get("parameters"))),
        ("MACs an image", short(run.config.get("macs"))),
        ("Training time", duration(training_seconds(metrics))),
        ("Images a second", count(throughput(metrics))),
    ]


def training_seconds(metrics: Metrics) -> float | None:
    """Seconds of all epochs together."""
    return float(np.nansum(metrics.column("seconds"))) if metrics.has("seconds") else None


def throughput(metrics: Metrics) -> float | None:
    """The median epoch's training images a second."""
    return float(np.nanmedian(metrics.column("images_per_second"))) if metrics.has("images_per_second") else None


def notes(run: RunFiles) -> list[str]:
    """What is not there yet, and what it will bring."""
    found = {name: (run.folder / name).is_file() for name in _SOURCES}
    said = []
    if not found["config.json"]:
        said.append("config.json is missing: recipe, data, machine and model size are not known.")
    if not len(run.metrics):
        said.append("metrics.csv has no epoch yet: learning curves come with the first finished epoch.")
    if run.evaluation is None:
        what = "the confusion matrix and sample predictions"
        if judged(run) != "top1":
            what = "the table of classes and predictions beside the truth"
        said.append(f"evaluation.json is not there yet: {what} come with the evaluation.")
    broken = _not_finite(run.metrics)
    if broken:
        said.append(f"The loss was not finite after epoch {broken}.")
    return said


def _not_finite(metrics: Metrics) -> str:
    """Epochs whose loss is missing while other epochs have it."""
    losses = metrics.column("loss") if metrics.has("loss") else metrics.column("train_loss")
    return ", ".join(f"{epoch:g}" for epoch in metrics.epochs[~np.isfinite(losses)])


def figure_table(metrics: Metrics) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Heads and rows: each figure at the best and at the last epoch."""
    if not len(metrics):
        return [], []
    last = len(metrics) - 1
    columns: list[tuple[str, int]] = [(f"Last epoch ({metrics.epochs[last]:g})", last)]
    best: Best | None = metrics.best
    if best is not None:
        columns.insert(0, (f"Best epoch ({best.epoch})", best.row))
    names = [*_WORDS, *(name for name in metrics.columns if name.removeprefix("ema_") in _DENSE)]
    rows = [
        (_word(name), [value_text(name, metrics.column(name)[row]) for _, row in columns])
        for name in names
        if metrics.has(name)
    ]
    return [head for head, _ in columns], rows


def _word(name: str) -> str:
    if name in _WORDS:
        return _WORDS[name]
    averaged = " (EMA)" if name.startswith("ema_") else ""
    return f"Validation {figure_name(name.removeprefix('ema_'))}{averaged}"


def _is_dense(name: str) -> bool:
    """Whether it is a share that detectors or segmenters are measured by."""
    plain = name.removeprefix("ema_")
    return plain.startswith(("box_", "mask_")) or plain in ("miou", "pixel_accuracy", "mean_accuracy")


def epoch_table(metrics: Metrics) -> dict[str, list[Any]] | None:
    """Every epoch with everything that was measured."""
    names = [name for name in metrics.columns if metrics.has(name)]
    if not len(metrics):
        return None
    rows = [[value_text(name, metrics.column(name)[i]) for name in names] for i in range(len(metrics))]
    return {"heads": [name.replace("_", " ") for name in names], "rows": rows}


def evaluation_rows(run: RunFiles) -> list[Row]:
    """The figures of evaluation.json and how many images they stand for."""
    if run.evaluation is None:
        return []
    figures, images = run.evaluation.figures, run.evaluation.images
    rows = [(capital(figure_name(name)), value_text(name, figures[name])) for name in figures]
    rows += [("Images", count(images))] if images else []
    return [*rows, ("Weights", run.evaluation.weights)] if run.evaluation.weights else rows


def value_text(name: str, value: float) -> str:
    """A figure by its name: shares in percent, counts whole, the rest with four digits."""
    if "top" in name or "accuracy" in name or _is_dense(name):
        return percent(value)
    if name in ("epoch", "update"):
        return count(value)
    if name == "seconds":
        return duration(value)
    return count(value) if name == "images_per_second" else figure(value)


def sources(run: RunFiles) -> str:
    """The files that the page was written from."""
    return ", ".join(name for name in _SOURCES if (run.folder / name).is_file()) or "an empty run folder"
