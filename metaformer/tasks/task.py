"""The protocol of a task: how its data is opened, and its model built, trained, evaluated, run and reported.

Each task is a subfolder, and ``TASKS`` is the table of them. Code that trains, evaluates, predicts, exports or reports
calls the object in this table and does not depend on the kind of task. A task's object has no state of a run, and its
module imports PyTorch only inside its methods, so that the command line starts quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import DataError, InputError, RunError, did_you_mean
from ..metrics import MetricDef

if TYPE_CHECKING:
    import torch
    from markupsafe import Markup
    from PIL import Image
    from rich.console import RenderableType
    from torch import Tensor

    from ..data.dataset import Progress, Splits
    from ..data.inspection import PartSummary
    from ..evaluation import Evaluation
    from ..model.dense.build import AnyModel
    from ..recipe import DataConfig, Recipe
    from ..spec.model import AnySpec
    from ..training.evaluation import Batches
    from ..types import Batch, Objective, Preprocessing

TASKS: dict[str, str] = {
    "classification": "metaformer.tasks.classification.task:Classification",
    "detection": "metaformer.tasks.detection.task:Detection",
    "segmentation": "metaformer.tasks.segmentation.task:Segmentation",
}
"""Module and class of each task. The first task is the default: for data that no other recognizes, and for published
weights."""


@dataclass(frozen=True, kw_only=True)
class Loaders:
    """The loaders of a run."""

    train: Batches
    val: Batches
    mixing: Callable[[Batch], Batch] | None = None
    """Mixup or CutMix, applied to training batches on the device."""
    cached: bool = False
    """Whether all images are decoded once and cached in memory."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How a model is evaluated."""

    batch_size: int = 64
    workers: int = 0
    cached: bool = False
    """Whether this process has the decoded images in memory already."""
    device: torch.device | str = "cpu"
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    """Returns the context of the forward pass."""
    each_batch: Callable[[], None] = lambda: None
    """Called after each batch."""


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """Options of a prediction; each task uses those that apply to it."""

    top: int = 5
    """The maximum number of classes in a classifier's result."""
    score: float = 0.5
    """The minimum score of an object in a detector's result."""
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.top < 1:
            raise RunError(f"top: expected at least 1, got {self.top}")
        if not 0 <= self.score <= 1:
            raise RunError(f"score: expected a number from 0 to 1, got {self.score}")


class Result(Protocol):
    """A model's prediction for one image. A rich console can print it."""

    @property
    def file(self) -> Path | None:
        """The image's file; None for an image that was passed in memory."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""

    def draw(self) -> Image.Image | None:
        """The image with the result drawn on it; None for results that cannot be drawn."""

    def images(self) -> Mapping[str, Image.Image]:
        """The images to write to files, by file name ending, such as ``{".png": ...}``."""

    def __rich__(self) -> RenderableType:
        """The text for a terminal."""


class Task(Protocol):
    """One kind of task.

    ``Any`` stands for the task's own model, dataset, result and evaluation; its implementation has the exact types.
    """

    @property
    def name(self) -> str:
        """Its name in ``TASKS``."""

    @property
    def metrics(self) -> tuple[MetricDef, ...]:
        """All metrics that its evaluations may have, in the order of files and tables."""

    @property
    def layout(self) -> str:
        """The layout of its data on the disk, such as "a folder for each class"."""

    @property
    def unit(self) -> str:
        """The unit in which classes are counted: images, objects or pixels."""

    @property
    def draws(self) -> bool:
        """Whether its results have images to write."""

    def primary(self, measured: Collection[str] = ()) -> MetricDef:
        """The metric that selects the best weights, among those measured; by default for a new run."""

    def chance(self, classes: Sequence[str]) -> float | None:
        """The primary metric of random predictions; None where it has no such value."""

    def recognizes(self, data: DataConfig) -> bool:
        """Whether a source has the layout of this task."""

    def open(self, data: DataConfig, progress: Progress | None = None) -> Splits[Any]:
        """Open a dataset; raises ``DataError``."""

    def inspect(self, splits: Splits[Any], progress: Progress | None = None) -> tuple[PartSummary, ...]:
        """A summary of the training part and of the validation part."""

    def build(self, recipe: Recipe, splits: Splits[Any], spec: AnySpec | None = None) -> tuple[AnyModel, list[str]]:
        """The recipe's model for this data, and a note on each setting that was chosen automatically.

        ``spec`` replaces the recipe's model; for dense tasks, their backbone.
        """

    def objective(self, recipe: Recipe, splits: Splits[Any], model: Any) -> Objective:
        """What the run optimizes and is measured by."""

    def loaders(self, recipe: Recipe, splits: Splits[Any], model: Any, progress: Progress | None = None) -> Loaders:
        """The loaders of this process; each process loads its share of a batch."""

    def evaluate(self, model: Any, dataset: Any, classes: Sequence[str], options: EvaluationOptions) -> Evaluation:
        """Evaluate a model on a dataset; raises ``DataError``."""

    def read_evaluation(self, data: Mapping[str, Any]) -> Evaluation:
        """The inverse of the evaluation's ``to_dict``; reads files of version 0.1.0 too."""

    def prepare(self, model: Any, image: Image.Image) -> Tensor:
        """The model's input for an image, (C, H, W) float32."""

    def random_inputs(self, model: Any, count: int) -> list[Tensor]:
        """Up to ``count`` artificial inputs for the model; always the same."""

    def predict(
        self, model: Any, images: Sequence[Image.Image], classes: Sequence[str], options: PredictionOptions
    ) -> Sequence[Any]:
        """A ``Result`` for each image; the model must be in evaluation mode."""

    def collect(self, results: Sequence[Any]) -> Mapping[str, Any]:
        """JSON documents for all results together, by file name, such as COCO results.

        Without results, empty documents under the same names; no names for most tasks.
        """

    def sections(self, evaluation: Any, folder: Path) -> list[Markup]:
        """The task's sections of a report, with headings; figures are also saved to ``folder``."""

    def input_rows(self, spec: Any, preprocessing: Preprocessing) -> list[tuple[str, str]]:
        """Rows of a report's table on the model's input."""


@cache
def task_named(name: str) -> Task:
    """The task with this name; imports its module.

    Raises:
        RunError: there is no such task; the message suggests the nearest.
    """
    if name not in TASKS:
        raise RunError(f"task: expected one of {', '.join(TASKS)}, got {name!r}. {did_you_mean(name, TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    task: Task = getattr(import_module(module), attribute)()
    return task


def tasks() -> Iterator[Task]:
    """All tasks, in the order of the table."""
    return map(task_named, TASKS)


def recognized_task(data: DataConfig) -> Task:
    """The task whose layout a source has; the first of the table where no other recognizes it."""
    first, *others = tasks()  # the first recognizes everything
    return next((task for task in others if task.recognizes(data)), first)


def expect_layout(data: DataConfig, task: Task, problem: InputError | None = None) -> None:
    """Check that a source does not have the layout of another task; with ``problem``, raise it and add a hint.

    Raises:
        InputError: of the type of ``problem``, or ``DataError``.
    """
    recognized = recognized_task(data)
    hint = ""
    if recognized.name not in (task.name, next(iter(TASKS))):
        hint = f"{data.source} is in {recognized.layout} layout; pass --task {recognized.name}"
    if problem is not None:
        raise type(problem)(f"{problem}. {hint}" if hint else str(problem)) from None
    if hint:
        raise DataError(f"expected {task.layout}; {hint}")
