"""A model to one safetensors file that describes it, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Unpack

from ..model.dense.build import AnyModel
from .description import Description, SpecChanges, describe, described_by
from .load import load_weights, locate
from .safetensors_io import read_metadata, write_tensors


def save_weights(
    model: AnyModel,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    task: str = "",
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Write a model's weights and its description to a safetensors file, all or nothing.

    Args:
        model: the model.
        path: the file.
        classes: names of its scores, in order.
        task: what it was trained for; what its spec is usually for where left out.
        extra: further entries for the header of the file.

    Raises:
        WeightsError: another number of names than scores.
        RunError: the disk refuses; an earlier file is then unchanged.
    """
    target = Path(path)
    write_tensors(target, model.state_dict(), {**(extra or {}), **describe(model, classes, task).header})
    return target


def load_model(path: str | Path, *, mixers: object = None, **changes: Unpack[SpecChanges]) -> AnyModel:
    """The model that ``save_weights`` wrote, with its weights, in evaluation mode.

    Args:
        path: the file, or a run's folder: its best weights.
        mixers: the token mixers, where they were Python objects: one for all stages or one for each.
        changes: fields of ``SpecChanges``, as far as the spec has them.

    Returns:
        The kind of model that was saved: a classifier, ``Detector`` or ``Segmenter``.

    Raises:
        WeightsError: truncated, not a safetensors file, or without a description.
    """
    file = locate(path) if Path(path).is_dir() else Path(path)
    model = read_description(file).build(mixers, **changes)
    load_weights(model, file)
    return model.eval()


def read_description(path: str | Path) -> Description:
    """What a weights file says of its model: name, task, spec, preprocessing and class names."""
    return described_by(read_metadata(Path(path)), str(path))


def read_metrics(path: str | Path) -> dict[str, float]:
    """The evaluation metrics that training noted beside the weights in a file; empty where there are none."""
    header = read_metadata(Path(path))
    try:
        noted = json.loads(header.get("metrics") or header.get("figures") or "{}")  # "figures" in version 0.1.0
    except ValueError:
        return {}
    if not isinstance(noted, dict):
        return {}
    # the file holds one model, its header the metrics of two: those of averaged weights begin with "ema_"
    prefix = "ema_" if header.get("averaged") == "true" else ""
    evaluated = {name.removeprefix(prefix): value for name, value in noted.items() if name.startswith(prefix)}
    other = ("ema_", "train_", "lr", "update")
    numbers = {name: value for name, value in evaluated.items() if isinstance(value, (int, float)) and isfinite(value)}
    return {name: value for name, value in numbers.items() if not name.startswith(other)}
