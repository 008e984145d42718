"""What came out of a run, as sentences and table rows ready to print: only read from its files, never measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from .numbers import count, duration, figure, known, percent, short
from .run_files import Best, Metrics, RunFiles, part

Row = tuple[str, str]

_WORDS = {
    "train_loss": "Training loss", "train_top1": "Training top-1", "loss": "Validation loss",
    "top1": "Validation top-1", "top5": "Validation top-5", "ema_loss": "Validation loss (EMA)",
    "ema_top1": "Validation top-1 (EMA)", "ema_top5": "Validation top-5 (EMA)",
}  # fmt: skip
_EVALUATION_WORDS = {"loss": "Loss", "top1": "Top-1", "top5": "Top-5"}
_SOURCES = ("config.json", "metrics.csv", "evaluation.json")


def title(run: RunFiles) -> str:
    """``poolformer_s12 on digits``, or the folder's name where config.json is missing."""
    name, source = run.config.get("name"), part(run.config, "data").get("source")
    return f"{name} on {source}" if name and source else str(name or run.folder.resolve().name)


def verdict(run: RunFiles) -> str:
    """The result in one sentence."""
    best = run.metrics.best
    if best is None:
        measured = run.evaluation.figures.get("top1") if run.evaluation else None
        return f"Evaluated at {percent(measured)} top-1." if known(measured) else "No accuracy was measured yet."
    which = ", with averaged weights (EMA)" if best.averaged else ""
    size = [f"{short(run.config.get(key))} {word}" for key, word in _SIZES if known(run.config.get(key))]
    cost = f"; {' and '.join(size)}" if size else ""
    return f"Best validation top-1 {percent(best.top1)} after epoch {best.epoch} of {_epochs(run)}{which}{cost}."


_SIZES = (("parameters", "parameters"), ("macs", "multiply-adds a picture"))


def _epochs(run: RunFiles) -> str:
    """Planned epochs, and how many are done where that is fewer."""
    done = int(run.metrics.epochs[-1])
    optimisation = part(part(run.config, "recipe"), "optimisation")
    planned = optimisation.get("epochs")
    if not known(planned):
        return count(done)
    planned += optimisation.get("cooldown_epochs") or 0
    return count(planned) if done >= planned else f"{count(planned)} ({count(done)} done)"


def tiles(run: RunFiles) -> list[Row]:
    """The few figures that people look for first."""
    metrics, best = run.metrics, run.metrics.best
    return [
        ("Best top-1", percent(best.top1 if best else None)),
        ("Best epoch", count(best.epoch if best else None)),
        ("Parameters", short(run.config.get("parameters"))),
        ("MACs a picture", short(run.config.get("macs"))),
        ("Training time", duration(training_seconds(metrics))),
        ("Images a second", count(throughput(metrics))),
    ]


def training_seconds(metrics: Metrics) -> float | None:
    """Seconds of all epochs together."""
    return float(np.nansum(metrics.column("seconds"))) if metrics.has("seconds") else None


def throughput(metrics: Metrics) -> float | None:
    """The median epoch's training pictures a second."""
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
        said.append(
            "evaluation.json is not there yet: the confusion matrix and sample predictions come with the evaluation."
        )
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
    rows = [
        (word, [value_text(name, metrics.column(name)[row]) for _, row in columns])
        for name, word in _WORDS.items()
        if metrics.has(name)
    ]
    return [head for head, _ in columns], rows


def epoch_table(metrics: Metrics) -> dict[str, list[Any]] | None:
    """Every epoch with everything that was measured."""
    names = [name for name in metrics.columns if metrics.has(name)]
    if not len(metrics):
        return None
    rows = [[value_text(name, metrics.column(name)[i]) for name in names] for i in range(len(metrics))]
    return {"heads": [name.replace("_", " ") for name in names], "rows": rows}


def evaluation_rows(run: RunFiles) -> list[Row]:
    """The figures of evaluation.json and how many pictures they stand for."""
    if run.evaluation is None:
        return []
    figures, pictures = run.evaluation.figures, run.evaluation.pictures
    rows = [(_EVALUATION_WORDS.get(name, name.replace("_", " ")), value_text(name, figures[name])) for name in figures]
    rows += [("Pictures", count(pictures))] if pictures else []
    return [*rows, ("Weights", run.evaluation.weights)] if run.evaluation.weights else rows


def value_text(name: str, value: float) -> str:
    """A figure by its name: shares in percent, counts whole, the rest with four digits."""
    if "top" in name or "accuracy" in name:
        return percent(value)
    if name in ("epoch", "update"):
        return count(value)
    if name == "seconds":
        return duration(value)
    return count(value) if name == "images_per_second" else figure(value)


def sources(run: RunFiles) -> str:
    """The files that the page was written from."""
    return ", ".join(name for name in _SOURCES if (run.folder / name).is_file()) or "an empty run folder"
