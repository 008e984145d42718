"""``config.json`` of a run: everything that is known before the first update. No torch here.

The same record writes it when a run starts, and reads it to resume, evaluate, export or report the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from ..errors import InputError, RunError
from ..files import read_json, write_json
from ..metrics import MetricDef
from ..recipe import Recipe
from ..records import Record
from ..spec.dense import DenseSpec
from ..spec.model import AnySpec
from ..tasks.task import Task, task_named
from ..types import Preprocessing

CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class _ConfigRecord(Record):
    error: ClassVar[type[InputError]] = RunError


@dataclass(frozen=True, kw_only=True)
class SkippedFile(_ConfigRecord):
    """A file of the dataset that was left out."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DataSummary(_ConfigRecord):
    """The dataset of a run."""

    source: str
    train: int
    """Training samples."""
    val: int
    """Validation samples."""
    skipped: tuple[SkippedFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MachineSummary(_ConfigRecord):
    """Hardware and versions of a run."""

    cpu: str = ""
    threads: int | None = None
    torch: str = ""
    python: str = ""
    device: str = ""
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class RunConfig(_ConfigRecord):
    """The content of config.json."""

    recipe: Recipe
    name: str
    """The name of the model."""
    spec: AnySpec | DenseSpec
    """The complete model. Mixers that are Python objects are stored by name only."""
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    primary: str | None = None
    """The metric that selects the best epoch; missing in runs of version 0.1.0."""
    data: DataSummary
    parameters: int
    macs: int
    """Multiply-adds of one sample."""
    machine: MachineSummary = field(default_factory=MachineSummary)
    version: str = ""
    commit: str | None = None
    command: str = ""

    @property
    def task(self) -> Task:
        """The run's task."""
        return task_named(self.recipe.task)

    def primary_metric(self, measured: tuple[str, ...] = ()) -> MetricDef:
        """The metric that selects the best epoch; ``measured`` decides it for runs of version 0.1.0."""
        stored = next((metric for metric in self.task.metrics if metric.name == self.primary), None)
        return stored or self.task.primary(measured)

    def write(self, folder: Path) -> Path:
        """Write config.json atomically."""
        return write_json(folder / CONFIG, self.to_dict())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The config.json of a run's folder.

        Raises:
            RunError: the file is missing, damaged, or not a run's; the message has its path.
        """
        path = folder / CONFIG
        data = read_json(path)
        if not isinstance(data.get("recipe"), Mapping):  # a hub repository has a config.json too
            raise RunError(f"{path}: expected the config.json of a run, with a recipe in it")
        try:
            # before data.memory was a setting, runs read images one at a time, which draws other random numbers
            recipe = dict(data["recipe"])
            if isinstance(recipe.get("data"), Mapping):
                recipe["data"] = {"memory": "never", **recipe["data"]}
            return cls.from_dict(data | {"recipe": recipe})
        except InputError as error:
            raise RunError(f"{path}: {error}") from None


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / CONFIG).is_file()


def run_of(source: str | Path | None) -> Path | None:
    """The folder of the run that weights belong to: ``source`` itself or its parent; None for other weights."""
    folders = () if source is None else (Path(source).expanduser(), Path(source).expanduser().parent)
    return next((folder for folder in folders if is_run(folder)), None)
