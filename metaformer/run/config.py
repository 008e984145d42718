"""``config.json`` of a run: everything that is known before the first update. No torch here.

Written when a run starts, read by whatever resumes, evaluates, exports or reports it, through the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

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
    """What a run is trained and evaluated on."""

    source: str
    train: int
    """Training samples."""
    val: int
    """Validation samples."""
    skipped: tuple[SkippedFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MachineSummary(_ConfigRecord):
    """What a run is trained on."""

    cpu: str = ""
    threads: int | None = None
    torch: str = ""
    python: str = ""
    device: str = ""
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class RunConfig(_ConfigRecord):
    """A run before its first update."""

    recipe: Recipe
    name: str
    """The model's."""
    spec: AnySpec | DenseSpec
    """The whole model; mixers that are Python objects by their names only."""
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    primary: str | None = None
    """The metric that decides which epoch is the best; not in runs of 0.1.0."""
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
        """The metric that decides; for runs of 0.1.0, which do not say, by what was measured."""
        named = [metric for metric in self.task.metrics if metric.name == self.primary]
        return named[0] if named else self.task.primary(measured)

    def write(self, folder: Path) -> Path:
        """Write config.json, all or nothing."""
        return write_json(folder / CONFIG, self.to_dict())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The config.json of a run's folder.

        Raises:
            RunError: it is not there, damaged, or not a run's; the message names it.
        """
        path = folder / CONFIG
        data = read_json(path)
        if not isinstance(data.get("recipe"), Mapping):
            raise RunError(f"{path}: expected the config.json of a run, with a recipe in it")
        try:
            return cls.from_dict(_completed(data))
        except InputError as error:
            raise RunError(f"{path}: {error}") from None


def is_run(folder: Path) -> bool:
    """Whether a run wrote this folder."""
    return (folder / CONFIG).is_file()


def run_of(source: str | Path | None) -> Path | None:
    """The run's folder that weights belong to: the folder itself, or the one a file is in; None for other weights."""
    folders = () if source is None else (Path(source).expanduser(), Path(source).expanduser().parent)
    return next((folder for folder in folders if is_run(folder)), None)


def _completed(data: dict[str, Any]) -> dict[str, Any]:
    """Runs from before ``data.memory`` was a choice read their images one at a time, which draws differently."""
    recipe = dict(data["recipe"])
    if isinstance(recipe.get("data"), Mapping):
        recipe["data"] = {"memory": "never", **recipe["data"]}
    return data | {"recipe": recipe}
