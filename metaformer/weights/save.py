"""A model to one safetensors file that says what it is, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .description import AnyModel, Description, describe, described_by
from .load import load_weights, locate
from .safetensors_io import read_metadata, write_tensors


def save_weights(
    model: AnyModel,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Write a model's weights and its description to a safetensors file, all or nothing.

    Args:
        model: the model.
        path: the file, or a run's folder: its best weights.
        classes: names of its scores, in order.
        extra: more texts for the file's header.

    Raises:
        WeightsError: the names do not fit the scores.
        RunError: the disk refuses; what was there before is untouched.
    """
    target = Path(path)
    write_tensors(target, model.state_dict(), {**(extra or {}), **describe(model, classes).header})
    return target


def load_model(path: str | Path, *, mixers: object = None, **changes: Any) -> Any:
    """The model that ``save_weights`` wrote, with its weights, in evaluation mode.

    Args:
        path: the file.
        mixers: the token mixers, where they were Python objects: one for all stages or one for each.
        changes: fields of the spec to change: ``num_classes``, ``img_size``, ``drop_path_rate``; for a detector or a
            segmenter ``num_classes``, ``short_side``, ``long_side``, ``square``, ``drop_path_rate``.

    Returns:
        The kind of model that was saved: a classifier, ``Detector`` or ``Segmenter``.

    Raises:
        WeightsError: cut, not a safetensors file, or without a description.
    """
    file = locate(path) if Path(path).is_dir() else Path(path)
    model = read_description(file).build(mixers, **changes)
    load_weights(model, file)
    return model.eval()


def read_description(path: str | Path) -> Description:
    """What a weights file says of its model: name, spec, preprocessing and class names."""
    return described_by(read_metadata(Path(path)), str(path))
