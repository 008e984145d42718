"""Semantic segmentation: a class for each pixel. Each method imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import RunError
from ...recipe import DataConfig, Recipe
from ..task import EvaluationOptions, Loaders, PredictionOptions
from .metrics import METRICS, MIOU

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image
    from torch import Tensor

    from ...data.dataset import Progress, Splits
    from ...data.inspection import PartSummary
    from ...data.label_maps import LabelMapDataset
    from ...metrics import MetricDef
    from ...model.dense.detector import Segmenter
    from ...spec.dense import DenseSpec
    from ...spec.model import AnySpec
    from ...types import Preprocessing
    from ..task import Task
    from .evaluation import SegmentationEvaluation
    from .objective import SegmentationObjective
    from .predict import LabelMap

SIDES = (512, 2048)
"""Short and maximum long side of images in pixels (MetaFormer, section 4.3)."""


class Segmentation:
    """Implements ``tasks.task.Task``."""

    name = "segmentation"
    metrics = METRICS
    layout = "ADE20K's"
    unit = "pixels"
    draws = True

    def primary(self, measured: Collection[str] = ()) -> MetricDef:
        """Mean IoU."""
        return MIOU

    def chance(self, classes: Sequence[str]) -> float:
        """0, nearly: with a random class for each pixel, the IoU of a class is below 1 / K."""
        return 0.0

    def recognizes(self, data: DataConfig) -> bool:
        """Whether the folder has label maps in ADE20K's layout."""
        from ...data.label_maps import is_label_map_folder

        return is_label_map_folder(Path(data.source).expanduser())

    def open(self, data: DataConfig, progress: Progress | None = None) -> Splits[Tensor]:
        """Images with label maps; raises ``DataError``."""
        from ...data.label_maps import open_label_maps
        from ..dense import open_annotated

        return open_annotated(lambda: open_label_maps(data, progress), data, self)

    def inspect(self, splits: Splits[Tensor], progress: Progress | None = None) -> tuple[PartSummary, ...]:
        """Images, and pixels of each class."""
        from .inspect import inspect

        return inspect(splits, progress)

    def build(self, recipe: Recipe, splits: Splits[Tensor], spec: AnySpec | None = None) -> tuple[Segmenter, list[str]]:
        """A Semantic FPN."""
        from ...factory.dense import create_segmenter
        from ..dense import build_dense

        system = recipe.dense.system or "semantic_fpn"
        if system != "semantic_fpn":
            raise RunError(f"dense.system: expected semantic_fpn for segmentation, got {system}")
        return build_dense(create_segmenter, system, recipe, splits.classes, spec, SIDES), []

    def objective(self, recipe: Recipe, splits: Splits[Tensor], model: Segmenter) -> SegmentationObjective:
        """The mean cross entropy of the pixels."""
        from .objective import SegmentationObjective

        return SegmentationObjective(len(splits.classes), splits.classes)

    def loaders(
        self, recipe: Recipe, splits: Splits[Tensor], model: Segmenter, progress: Progress | None = None
    ) -> Loaders:
        """Loaders of crops of images and label maps; whole images for evaluation."""
        from ...data.loading.samples import stack
        from ...data.transforms.paired import LabelMapEvalTransform, LabelMapTrainTransform
        from ..dense import make_loaders

        spec, preprocessing = model.spec, model.preprocessing
        augment = LabelMapTrainTransform(spec, recipe.augmentation, recipe.dense, preprocessing)
        return make_loaders(recipe, splits, augment, LabelMapEvalTransform(spec, preprocessing), stack)

    def evaluate(
        self, model: Segmenter, dataset: LabelMapDataset, classes: Sequence[str], options: EvaluationOptions
    ) -> SegmentationEvaluation:
        """Mean IoU, the IoU of each class, a confusion matrix and samples."""
        from .evaluate import evaluate

        return evaluate(model, dataset, classes, options)

    def read_evaluation(self, data: Mapping[str, Any]) -> SegmentationEvaluation:
        """The inverse of the record's ``to_dict``."""
        from .evaluation import read

        return read(data)

    def prepare(self, model: Segmenter, image: Image.Image) -> Tensor:
        """The image, resized with the model's spec and normalized."""
        from ...data.transforms.paired import segmenter_input

        return segmenter_input(image, model.spec, model.preprocessing)

    def random_inputs(self, model: Segmenter, count: int) -> list[Tensor]:
        """Smooth noise; at most four images, because a segmenter is slow."""
        from ..synthetic import smooth_noise

        return smooth_noise(min(count, 4), model.spec.in_chans, model.preprocessing.size)

    def predict(
        self, model: Segmenter, images: Sequence[Image.Image], classes: Sequence[str], options: PredictionOptions
    ) -> list[LabelMap]:
        """The most likely class of each pixel."""
        from .predict import predict

        return predict(model, images, classes, options)

    def collect(self, results: Sequence[LabelMap]) -> Mapping[str, Any]:
        """An empty mapping; segmentation has no files for all results together."""
        return {}

    def sections(self, evaluation: SegmentationEvaluation, folder: Path) -> list[Markup]:
        """A table of classes, a confusion matrix, sample predictions beside the ground truth."""
        from .report import sections

        return sections(evaluation, folder)

    def input_rows(self, spec: DenseSpec, preprocessing: Preprocessing) -> list[tuple[str, str]]:
        """The system and its image sizes."""
        return spec.input_rows


if TYPE_CHECKING:
    _conforms: Task = Segmentation()  # type checkers compare it with the protocol here
