"""Detection of objects, with boxes or masks. Each method imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import RunError
from ...recipe import DataConfig, Recipe
from ..task import EvaluationOptions, Loaders, PredictionOptions
from .metrics import BOX_AP, MASK_AP, METRICS

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image
    from torch import Tensor

    from ...data.coco import CocoDataset
    from ...data.dataset import Progress, Splits
    from ...data.inspection import PartSummary
    from ...metrics import MetricDef
    from ...model.dense.detector import Detector
    from ...spec.dense import DenseSpec
    from ...spec.model import AnySpec
    from ...types import Objects, Preprocessing
    from ..task import Task
    from .detections import Detections
    from .evaluation import DetectionEvaluation
    from .objective import DetectionObjective

SIDES = (800, 1333)
"""Short and maximum long side of images in pixels (MetaFormer, section 4.2)."""


class Detection:
    """Implements ``tasks.task.Task``."""

    name = "detection"
    metrics = METRICS
    layout = "COCO's"
    unit = "objects"
    draws = True

    def primary(self, measured: Collection[str] = ()) -> MetricDef:
        """Mask AP where masks were measured, else box AP."""
        return MASK_AP if MASK_AP.name in measured else BOX_AP

    def chance(self, classes: Sequence[str]) -> float:
        """0: random boxes match no object."""
        return 0.0

    def recognizes(self, data: DataConfig) -> bool:
        """Whether the folder has COCO annotations."""
        from ...data.coco import is_coco_folder

        return is_coco_folder(Path(data.source).expanduser())

    def open(self, data: DataConfig, progress: Progress | None = None) -> Splits[Objects]:
        """Images with objects; raises ``DataError``."""
        from ...data.coco import open_coco
        from ..dense import open_annotated

        return open_annotated(lambda: open_coco(data, progress), data, self)

    def inspect(self, splits: Splits[Objects], progress: Progress | None = None) -> tuple[PartSummary, ...]:
        """Images, objects and their areas."""
        from .inspect import inspect

        return inspect(splits, progress)

    def build(self, recipe: Recipe, splits: Splits[Objects], spec: AnySpec | None = None) -> tuple[Detector, list[str]]:
        """A detector: the recipe's system; by default Mask R-CNN for data with masks, otherwise RetinaNet."""
        from ...factory.dense import create_detector
        from ..dense import build_dense

        notes, system = [], recipe.dense.system
        if system is None:
            system = "mask_rcnn" if splits.has_masks else "retinanet"
            notes.append(f"{system}: the objects have {'masks' if splits.has_masks else 'boxes only'}")
        if system == "semantic_fpn":
            raise RunError("dense.system: expected retinanet or mask_rcnn for detection, got semantic_fpn")
        if system == "mask_rcnn" and not splits.has_masks:
            raise RunError("dense.system: mask_rcnn needs masks, and these objects have boxes only; use retinanet")
        return build_dense(create_detector, system, recipe, splits.classes, spec, SIDES), notes

    def objective(self, recipe: Recipe, splits: Splits[Objects], model: Detector) -> DetectionObjective:
        """The detector's own losses, and metrics on the objects of the validation part."""
        from .objective import DetectionObjective

        val: Any = splits.val
        return DetectionObjective(val.ground_truth(), len(splits.classes), masks=model.spec.finds_masks)

    def loaders(
        self, recipe: Recipe, splits: Splits[Objects], model: Detector, progress: Progress | None = None
    ) -> Loaders:
        """Loaders of lists of images and their objects."""
        from dataclasses import replace

        from ...data.loading.samples import as_lists
        from ...data.transforms.paired import ObjectEvalTransform, ObjectTrainTransform
        from ..dense import make_loaders
        from .evaluate import without_unused_masks

        used = replace(
            splits, train=without_unused_masks(splits.train, model), val=without_unused_masks(splits.val, model)
        )
        augment = ObjectTrainTransform(recipe.augmentation, recipe.dense, model.preprocessing)
        return make_loaders(recipe, used, augment, ObjectEvalTransform(), as_lists)

    def evaluate(
        self, model: Detector, dataset: CocoDataset, classes: Sequence[str], options: EvaluationOptions
    ) -> DetectionEvaluation:
        """COCO's metrics, a table of classes, precision-recall curves and samples."""
        from .evaluate import evaluate

        return evaluate(model, dataset, classes, options)

    def read_evaluation(self, data: Mapping[str, Any]) -> DetectionEvaluation:
        """The inverse of the record's ``to_dict``."""
        from .evaluation import read

        return read(data)

    def prepare(self, model: Detector, image: Image.Image) -> Tensor:
        """The image in [0, 1]; a detector itself resizes and normalizes."""
        from ...data.transforms.paired import detector_input

        return detector_input(image)

    def random_inputs(self, model: Detector, count: int) -> list[Tensor]:
        """Smooth noise in [0, 1]; at most four images, because a detector is slow."""
        from ..synthetic import smooth_noise

        images = smooth_noise(min(count, 4), model.spec.in_chans, model.preprocessing.size)
        return [image.sigmoid() for image in images]

    def predict(
        self, model: Detector, images: Sequence[Image.Image], classes: Sequence[str], options: PredictionOptions
    ) -> list[Detections]:
        """The detections in each image, best first."""
        from .predict import predict

        return predict(model, images, classes, options)

    def collect(self, results: Sequence[Detections]) -> Mapping[str, Any]:
        """``results.json`` in COCO's results format."""
        from .predict import coco_results

        return {"results.json": coco_results(results)}

    def sections(self, evaluation: DetectionEvaluation, folder: Path) -> list[Markup]:
        """Precision-recall curves, a table of classes, sample predictions beside the ground truth."""
        from .report import sections

        return sections(evaluation, folder)

    def input_rows(self, spec: DenseSpec, preprocessing: Preprocessing) -> list[tuple[str, str]]:
        """The system and its image sizes."""
        return spec.input_rows


if TYPE_CHECKING:
    _conforms: Task = Detection()  # type checkers compare it with the protocol here
