"""A run folder as data: config.json, metrics.csv and evaluation.json in, arrays and records out.

A file that is not there yet is nothing (the run may have just begun); a file that cannot be read is a ``RunError``
that names it. Shares are in [0, 1], K is the number of classes, E the number of finished epochs.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import RunError
from ...render.numbers import known
from ...tasks.dense.findings import Findings, findings_from

Figures = NDArray[np.float64]
_DECIDING = ("top1", "mask_ap", "box_ap", "miou")  # of each task; where there are masks, they decide


@dataclass(frozen=True)
class Best:
    """The epoch with the highest of the figure that decides."""

    epoch: int
    figure: str
    """``top1``, ``mask_ap``, ``box_ap`` or ``miou``."""
    share: float
    averaged: bool
    """Whether the averaged weights (EMA) reached it."""
    row: int
    """Its row in metrics.csv."""


@dataclass(frozen=True)
class Metrics:
    """metrics.csv by column; a row an epoch, NaN where nothing was written."""

    columns: Mapping[str, Figures] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def epochs(self) -> Figures:
        """(E,) the number of each epoch, as it stands in the file."""
        return self.columns.get("epoch", np.empty(0))

    def column(self, name: str) -> Figures:
        """(E,) one figure over the epochs; all NaN where the file does not have it."""
        return self.columns.get(name, np.full(len(self), np.nan))

    def has(self, name: str) -> bool:
        """Whether the figure was measured at least once."""
        return bool(np.isfinite(self.column(name)).any())

    def last(self, name: str) -> float:
        """The figure after the last epoch in which it was measured, NaN if never."""
        seen = self.column(name)[np.isfinite(self.column(name))]
        return float(seen[-1]) if len(seen) else float("nan")

    @property
    def judged(self) -> str:
        """The figure that decides which epoch is the best."""
        names = (name for name in _DECIDING if self.has(name) or self.has(f"ema_{name}"))
        return next(names, "top1")

    @property
    def best(self) -> Best | None:
        """The first epoch at the highest of the deciding figure, plain weights before averaged ones; None where it
        was never measured."""
        found = None
        for name in (self.judged, f"ema_{self.judged}"):
            if self.has(name):
                row = int(np.nanargmax(np.where(np.isfinite(self.column(name)), self.column(name), -np.inf)))
                share = float(self.column(name)[row])
                if found is None or share > found.share:
                    found = Best(int(self.epochs[row]), self.judged, share, name != self.judged, row)
        return found


@dataclass(frozen=True)
class Sample:
    """One evaluated image with the classes the model found most likely."""

    name: str
    label: int
    top: tuple[tuple[int, float], ...]
    """Pairs of class index and probability, most likely first."""
    thumbnail: str
    """PNG as base64."""

    @property
    def predicted(self) -> int:
        """The most likely class; -1 where no class was recorded."""
        return self.top[0][0] if self.top else -1

    @property
    def right(self) -> bool:
        """Whether the most likely class is the true one."""
        return self.predicted == self.label

    @cached_property
    def image(self) -> Image.Image | None:
        """The image in RGB, or None when its bytes are not an image."""
        try:
            return Image.open(io.BytesIO(base64.b64decode(self.thumbnail, validate=True))).convert("RGB")
        except (OSError, ValueError, binascii.Error):
            return None


@dataclass(frozen=True)
class Evaluation:
    """evaluation.json: figures, a (K, K) confusion matrix (rows true, columns predicted), sample images."""

    figures: Mapping[str, float]
    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    samples: tuple[Sample, ...]
    images: int = 0
    """How many were evaluated; 0 where that was not recorded."""
    weights: str = ""
    """The file whose weights were evaluated, where that was recorded."""
    dense: Findings | None = None
    """What a detector or a segmenter came to beside its figures; then ``confusion`` counts pixels, and ``samples`` are
    there."""

    def class_name(self, index: int) -> str:
        """The class's name, or its number where the list of names is shorter."""
        return self.classes[index] if 0 <= index < len(self.classes) else f"class {index}"

    @property
    def wrong_first(self) -> list[Sample]:
        """Samples with the surest mistakes first, then the right ones from unsure to sure."""
        wrong = sorted((s for s in self.samples if not s.right), key=lambda s: -_probability(s))
        return wrong + sorted((s for s in self.samples if s.right), key=_probability)


@dataclass(frozen=True)
class RunFiles:
    """Everything the report reads of one run."""

    folder: Path
    config: Mapping[str, Any]
    metrics: Metrics
    evaluation: Evaluation | None


def read_run(folder: Path | str) -> RunFiles:
    """Read a run folder. ``RunError`` when there is no such folder or a file in it is damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: expected a run folder, found none; give the folder that training wrote")
    config = _read_json(folder / "config.json") or {}
    return RunFiles(folder, config, read_metrics(folder / "metrics.csv"), read_evaluation(folder))


def read_metrics(path: Path) -> Metrics:
    """metrics.csv as columns. A row without an epoch, as a cut last line has, is left out."""
    if not path.is_file():
        return Metrics()
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if np.isfinite(_number(row.get("epoch")))]
        names = [name for name in reader.fieldnames or () if name]
    return Metrics({name: np.array([_number(row.get(name)) for row in rows], dtype=float) for name in names})


def read_evaluation(folder: Path) -> Evaluation | None:
    """evaluation.json of a run folder, or None when it was not evaluated yet."""
    path = folder / "evaluation.json"
    data = _read_json(path)
    return None if data is None else evaluation_from(data, str(path))


def evaluation_from(data: Mapping[str, Any], origin: str = "evaluation") -> Evaluation:
    """An evaluation from its JSON form. ``RunError`` naming ``origin`` when its parts do not fit each other."""
    try:
        classes = tuple(str(name) for name in data.get("classes") or ())
        confusion = np.asarray(data.get("confusion") or np.zeros((0, 0)), dtype=np.int64)
        dense = findings_from(data)
        samples = () if dense else tuple(_sample(entry) for entry in data.get("samples") or ())
        figures = {str(name): _number(value) for name, value in (data.get("figures") or {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{origin}: not an evaluation as `metaformer eval` writes it ({error})") from None
    if confusion.size and confusion.shape != (len(classes), len(classes)):
        raise RunError(
            f"{origin}: expected a confusion matrix of {len(classes)} × {len(classes)} for its "
            f"{len(classes)} classes, got shape {confusion.shape}; evaluate the run again"
        )
    images = data.get("images")
    number = int(images) if known(images) else int(confusion.sum())
    return Evaluation(figures, classes, confusion, samples, number, str(data.get("weights") or ""), dense)


def _sample(entry: Mapping[str, Any]) -> Sample:
    top: Sequence[Any] = entry.get("top") or ()
    pairs = tuple((int(index), float(probability)) for index, probability in top)
    return Sample(str(entry.get("name", "")), int(entry["label"]), pairs, str(entry.get("thumbnail") or ""))


def _probability(sample: Sample) -> float:
    return sample.top[0][1] if sample.top else 0.0


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of config.json, empty where it is not there."""
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: not valid JSON ({error}); the file is damaged, write it again") from None
    if not isinstance(data, dict):
        raise RunError(f"{path}: expected a mapping, got {type(data).__name__}")
    return data
