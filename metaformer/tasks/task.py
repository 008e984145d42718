"""What a task is: how its data is opened, its model built, trained, measured, asked and reported.

A task is a folder of this one, and ``TASKS`` is the one table of them: whatever trains, evaluates, predicts, exports or
reports asks the object found here and knows no task by its name. A task's object holds no state of a run, and its
module imports PyTorch only inside its methods, so that the command line starts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InputError, RunError, did_you_mean
from ..metrics import MetricDef

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image
    from torch import Tensor

    from ..data.dataset import Progress, Splits
    from ..data.inspection import PartSummary
    from ..evaluation import Evaluation
    from ..recipe import DataConfig, Recipe
    from ..spec.model import AnySpec
    from ..training.evaluation import Batches
    from ..types import Batch, Objective, Preprocessing

TASKS: dict[str, str] = {
    "classification": "metaformer.tasks.classification.task:Classification",
    "detection": "metaformer.tasks.detection.task:Detection",
    "segmentation": "metaformer.tasks.segmentation.task:Segmentation",
}
"""Where each task's object is defined. The first one takes whatever no other recognizes."""


@dataclass(frozen=True, kw_only=True)
class Loaders:
    """What a trainer reads from."""

    train: Batches
    val: Batches
    mixing: Callable[[Batch], Batch] | None = None
    """Applied to training batches on their device."""
    cached: bool = False
    """Whether all images are kept decoded in memory."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How a model is evaluated."""

    batch_size: int = 64
    workers: int = 0
    cached: bool = False
    """Whether this process keeps the images decoded already."""
    device: Any = "cpu"
    """A ``torch.device`` or its name."""
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    """Gives the context of the forward pass."""
    each_batch: Callable[[], None] = lambda: None
    """Called after each batch."""


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """What is asked of a model; a task takes from it what it has a use for."""

    top: int = 5
    """Most classes of a classifier's result."""
    score: float = 0.5
    """Least score of an object in a detector's result."""
    device: Any = "cpu"
    """A ``torch.device`` or its name."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise RunError(f"top: expected at least 1, got {self.top}")
        if not 0 <= self.score <= 1:
            raise RunError(f"score: expected a number from 0 to 1, got {self.score}")


class Result(Protocol):
    """What a model says of one image. It prints itself on a rich console."""

    @property
    def file(self) -> Path | None:
        """Where the image came from; None for one that was given in memory."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""

    def draw(self) -> Image.Image | None:
        """The image with the result drawn on it; None where there is nothing to draw."""

    def images(self) -> Mapping[str, Image.Image]:
        """What is worth a file: images by the ending of their names, such as ``{".png": ...}``."""

    def __rich__(self) -> Any:
        """For a terminal."""


class Task(Protocol):
    """One kind of task."""

    @property
    def name(self) -> str:
        """As in ``TASKS``."""

    @property
    def metrics(self) -> tuple[MetricDef, ...]:
        """Every metric that its evaluations may have, in the order of files and tables."""

    @property
    def layout(self) -> str:
        """How its data is laid out, such as "a folder for each class"."""

    @property
    def unit(self) -> str:
        """What a class is counted in: images, objects or pixels."""

    @property
    def draws(self) -> bool:
        """Whether its results have images to write."""

    def primary(self, measured: Collection[str] = ()) -> MetricDef:
        """The metric that decides, among those measured; of a whole run where none are given."""

    def chance(self, classes: Sequence[str]) -> float | None:
        """The primary metric of guessing; None where it has no such value."""

    def recognizes(self, data: DataConfig) -> bool:
        """Whether a source is laid out for this task."""

    def open(self, data: DataConfig, progress: Progress | None = None) -> Splits[Any]:
        """The dataset's parts; raises ``DataError``."""

    def inspect(self, splits: Splits[Any], progress: Progress | None = None) -> tuple[PartSummary, ...]:
        """What is in the training part and in the validation part."""

    def build(self, recipe: Recipe, splits: Splits[Any], spec: AnySpec | None = None) -> tuple[Any, list[str]]:
        """The recipe's model for this data, and what was decided for it, in sentences.

        ``spec`` is a model of the caller's in place of the recipe's name; for dense tasks, its backbone.
        """

    def objective(self, recipe: Recipe, splits: Splits[Any], model: Any) -> Objective:
        """What the run optimizes and is measured by."""

    def loaders(self, recipe: Recipe, splits: Splits[Any], model: Any, progress: Progress | None = None) -> Loaders:
        """Loaders of this process's share."""

    def evaluate(self, model: Any, dataset: Any, classes: Sequence[str], options: EvaluationOptions) -> Evaluation:
        """What a model comes to on one part of a dataset; raises ``DataError``."""

    def read_evaluation(self, data: Mapping[str, Any]) -> Evaluation:
        """The inverse of the evaluation's ``to_dict``; reads what version 0.1.0 wrote too."""

    def prepare(self, model: Any, image: Image.Image) -> Tensor:
        """An image as the model is called with it, (C, H, W) float32."""

    def random_inputs(self, model: Any, count: int) -> list[Tensor]:
        """Up to so many made-up images as the model is called with them; always the same."""

    def predict(
        self, model: Any, images: Sequence[Image.Image], classes: Sequence[str], options: PredictionOptions
    ) -> Sequence[Any]:
        """A result for each image; the model is in evaluation mode."""

    def collect(self, results: Sequence[Any]) -> Mapping[str, Any]:
        """Files over all results, as JSON documents by name, such as COCO's results; empty where there are none."""

    def sections(self, evaluation: Any, folder: Path) -> list[Markup]:
        """The parts of a report under headings of their own; drawings are saved to ``folder`` as well."""

    def input_rows(self, spec: Any, preprocessing: Preprocessing) -> list[tuple[str, str]]:
        """How images reach a model, as rows for a report."""


@cache
def task_named(name: str) -> Task:
    """The task of that name, its module imported now.

    Raises:
        RunError: there is no such task; the message names the nearest.
    """
    if name not in TASKS:
        raise RunError(f"task: expected one of {', '.join(TASKS)}, got {name!r}. {did_you_mean(name, TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    task: Task = getattr(import_module(module), attribute)()
    return task


def tasks() -> Iterator[Task]:
    """All of them, in the order of the table."""
    return map(task_named, TASKS)


def recognized_task(data: DataConfig) -> Task:
    """The task that a source is laid out for; the table's first where no other recognizes it."""
    first, *others = tasks()
    return next((task for task in others if task.recognizes(data)), first)


def expect_layout(data: DataConfig, task: Task, problem: InputError | None = None) -> None:
    """Raise ``problem``, or say that a source is laid out for another task, with the flag that takes it.

    Raises:
        InputError: of the kind of ``problem``.
    """
    found = recognized_task(data)
    other = ""
    if found.name not in (task.name, next(iter(TASKS))):
        other = f"{data.source} is in {found.layout} layout; pass --task {found.name}"
    if problem is not None:
        raise type(problem)(f"{problem}. {other}" if other else str(problem)) from None
    if other:
        from ..errors import DataError

        raise DataError(f"expected {task.layout}; {other}")
