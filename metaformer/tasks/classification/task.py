"""Classification of images. Each method imports what it needs when it is called, so this module is light."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...recipe import DataConfig, Recipe
from ..task import EvaluationOptions, Loaders, PredictionOptions, expect_layout
from .metrics import METRICS, TOP1

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image
    from torch import Tensor

    from ...data.dataset import LabeledDataset, Progress, Splits
    from ...data.inspection import PartSummary
    from ...metrics import MetricDef
    from ...model.build import Model
    from ...spec.model import AnySpec
    from ...types import Preprocessing
    from ..task import Task
    from .evaluation import ClassificationEvaluation
    from .objective import ClassificationObjective
    from .predict import ClassScores


class Classification:
    """Implements ``tasks.task.Task``."""

    name = "classification"
    metrics = METRICS
    layout = "a folder for each class"
    unit = "images"
    draws = False

    def primary(self, measured: Collection[str] = ()) -> MetricDef:
        """Top-1."""
        return TOP1

    def chance(self, classes: Sequence[str]) -> float:
        """1 / K."""
        return 1 / len(classes)

    def recognizes(self, data: DataConfig) -> bool:
        """True: this is the task of data that no other recognizes."""
        return True

    def open(self, data: DataConfig, progress: Progress | None = None) -> Splits[int]:
        """Labeled images; raises ``DataError``, also where the folder has the layout of another task."""
        from ...data.sources import open_labeled

        expect_layout(data, self)  # else COCO's folders "images" and "annotations" would become two classes
        return open_labeled(data, progress)

    def inspect(self, splits: Splits[int], progress: Progress | None = None) -> tuple[PartSummary, ...]:
        """Images and their sizes, by class."""
        from .inspect import inspect

        return inspect(splits, progress)

    def build(self, recipe: Recipe, splits: Splits[int], spec: AnySpec | None = None) -> tuple[Model, list[str]]:
        """A classifier for the images."""
        from .build import build_model

        return build_model(recipe, splits, spec)

    def objective(self, recipe: Recipe, splits: Splits[int], model: Model) -> ClassificationObjective:
        """Cross entropy with the recipe's label smoothing."""
        from .objective import ClassificationObjective

        return ClassificationObjective(len(splits.classes), recipe.optimizer.label_smoothing)

    def loaders(self, recipe: Recipe, splits: Splits[int], model: Model, progress: Progress | None = None) -> Loaders:
        """Loaders of images and classes, with the recipe's Mixup and CutMix."""
        from .build import make_loaders

        return make_loaders(recipe, splits, model, progress)

    def evaluate(
        self, model: Model, dataset: LabeledDataset, classes: Sequence[str], options: EvaluationOptions
    ) -> ClassificationEvaluation:
        """Top-1, top-5, a confusion matrix and sample predictions."""
        from .evaluate import evaluate

        return evaluate(model, dataset, classes, options)

    def read_evaluation(self, data: Mapping[str, Any]) -> ClassificationEvaluation:
        """The inverse of the record's ``to_dict``."""
        from .evaluation import read

        return read(data)

    def prepare(self, model: Model, image: Image.Image) -> Tensor:
        """The image, resized, cropped and normalized with the model's preprocessing."""
        from .predict import prepare

        return prepare(model, image)

    def random_inputs(self, model: Model, count: int) -> list[Tensor]:
        """Smooth noise of the input's size."""
        from ..synthetic import smooth_noise

        return smooth_noise(count, model.spec.in_chans, model.preprocessing.size)

    def predict(
        self, model: Model, images: Sequence[Image.Image], classes: Sequence[str], options: PredictionOptions
    ) -> list[ClassScores]:
        """The most likely classes of each image."""
        from .predict import predict

        return predict(model, images, classes, options)

    def collect(self, results: Sequence[ClassScores]) -> Mapping[str, Any]:
        """An empty mapping; classification has no files for all results together."""
        return {}

    def sections(self, evaluation: ClassificationEvaluation, folder: Path) -> list[Markup]:
        """Confusion matrix, mistakes and sample predictions."""
        from .report import sections

        return sections(evaluation, folder)

    def input_rows(self, spec: AnySpec, preprocessing: Preprocessing) -> list[tuple[str, str]]:
        """Size, interpolation and crop."""
        height, width = preprocessing.size
        text = f"{height} × {width} pixels, {preprocessing.interpolation}, crop {preprocessing.crop:g}"
        return [("Input", text)]


if TYPE_CHECKING:
    _conforms: Task = Classification()  # type checkers compare it with the protocol here
