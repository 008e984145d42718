"""Objects and pixels: annotated images, a detector or a segmenter fitted to them, its loaders, its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...data.annotated import Annotated, AnnotatedSplits
from ...data.coco import CocoDataset, open_detection
from ...data.inspection import TaskName, other_layout
from ...data.label_maps import open_segmentation
from ...data.loading.dense_loader import dense_evaluation_loader, dense_training_loader
from ...data.sets import Progress
from ...errors import DataError, RunError
from ...factory.dense import create_detector, create_segmenter
from ...recipe import DataConfig, Recipe
from ...training.device import processes
from ...training.randomness import reseed
from ...types import Task
from ..detection.objective import Detection
from ..segmentation.objective import Segmentation
from ..task import Equipment
from .evaluate import DenseScore, score_detection, score_segmentation

SIDES = {"detection": (800, 1333), "segmentation": (512, 2048)}
"""Short and long side of the paper's images, where a recipe leaves them open (MetaFormer, sections 4.2 and 4.3)."""


class DetectionWork:
    """Implements ``Work`` for boxes and masks of objects."""

    def open(self, choice: DataConfig, progress: Progress | None = None) -> AnnotatedSplits:
        """Images with objects; raises ``DataError``."""
        return _opened(open_detection, choice, "detection", progress)

    def fitted_model(self, recipe: Recipe, sets: AnnotatedSplits, spec: Any = None) -> tuple[Any, list[str]]:
        """A detector; Mask R-CNN where the objects have masks and RetinaNet where not, unless the recipe says."""
        notes, system = [], recipe.dense.system
        if system is None:
            system = "mask_rcnn" if sets.has_masks else "retinanet"
            notes.append(f"{system}: the objects have {'masks' if sets.has_masks else 'boxes and no masks'}")
        if system == "semantic_fpn":
            raise RunError("dense.system: expected retinanet or mask_rcnn to detect objects, got semantic_fpn")
        if system == "mask_rcnn" and not sets.has_masks:
            raise RunError(
                "dense.system: mask_rcnn learns from masks, and these objects have boxes only; take retinanet"
            )
        return _fitted(create_detector, system, recipe, sets, spec), notes

    def equipment(
        self, recipe: Recipe, sets: AnnotatedSplits, model: Any, progress: Progress | None = None
    ) -> Equipment:
        """Loaders of this process's share, and the task with the truth of the images to evaluate on."""
        assert isinstance(sets.val, CocoDataset)
        task = Detection(sets.val.ground_truth(), len(sets.classes), masks=model.spec.finds_masks)
        return _equipment(task, recipe, sets, model)

    def score(self, model: Any, images: Annotated, classes: Sequence[str], **more: Any) -> DenseScore:
        """COCO's figures, tables and curves."""
        return _scored(score_detection, model, images, classes, **more)


class SegmentationWork:
    """Implements ``Work`` for a class of each pixel."""

    def open(self, choice: DataConfig, progress: Progress | None = None) -> AnnotatedSplits:
        """Images with label maps; raises ``DataError``."""
        return _opened(open_segmentation, choice, "segmentation", progress)

    def fitted_model(self, recipe: Recipe, sets: AnnotatedSplits, spec: Any = None) -> tuple[Any, list[str]]:
        """A Semantic FPN."""
        system = recipe.dense.system or "semantic_fpn"
        if system != "semantic_fpn":
            raise RunError(f"dense.system: expected semantic_fpn to name the class of each pixel, got {system}")
        return _fitted(create_segmenter, system, recipe, sets, spec), []

    def equipment(
        self, recipe: Recipe, sets: AnnotatedSplits, model: Any, progress: Progress | None = None
    ) -> Equipment:
        """Loaders of this process's share, and the task."""
        return _equipment(Segmentation(len(sets.classes), sets.classes), recipe, sets, model)

    def score(self, model: Any, images: Annotated, classes: Sequence[str], **more: Any) -> DenseScore:
        """Mean IoU, the IoU of each class and confusions."""
        return _scored(score_segmentation, model, images, classes, **more)


def _opened(
    opener: Callable[..., AnnotatedSplits], choice: DataConfig, task: TaskName, progress: Progress | None
) -> AnnotatedSplits:
    """The sets, or what is wrong with them and which task they are laid out for."""
    try:
        return opener(choice, progress)
    except DataError as error:
        other = other_layout(choice, task)
        raise DataError(f"{error}. {other}") if other else error from None


def _fitted(create: Callable[..., Any], system: str, recipe: Recipe, sets: AnnotatedSplits, spec: Any) -> Any:
    choice, dense = recipe.model, recipe.dense
    usual_short, usual_long = SIDES[recipe.task]
    short = dense.short_side or usual_short
    reseed(recipe.seed, 0, 0, 0)  # the same initial weights in every process and every repetition
    return create(
        system,
        backbone=spec or choice.name,
        num_classes=len(sets.classes),
        pretrained_backbone=choice.pretrained and choice.weights is None,
        backbone_weights=choice.weights,
        short_side=short,
        long_side=dense.long_side or round(short * usual_long / usual_short),
        square=dense.square,
        img_size=choice.img_size,
        mixers=None if choice.mixers is None else list(choice.mixers),
        drop_path_rate=choice.drop_path_rate or 0.0,
        stem_stride=choice.stem_stride,
    )


def _equipment(task: Task, recipe: Recipe, sets: AnnotatedSplits, model: Any) -> Equipment:
    rank, world = processes()
    moves, pixels = recipe.optimizer, model.preprocessing
    shared: dict[str, Any] = {
        "batch_size": moves.batch_size // moves.accumulation,
        "rank": rank,
        "world": world,
        "workers": recipe.data.workers,
    }
    return Equipment(
        task=task,
        train_loader=dense_training_loader(
            sets.train, model.spec, pixels, recipe.augmentation, recipe.dense, seed=recipe.seed, **shared
        ),
        val_loader=dense_evaluation_loader(sets.val, model.spec, pixels, **shared),
    )


def _scored(
    score: Callable[..., DenseScore],
    model: Any,
    images: Annotated,
    classes: Sequence[str],
    *,
    batch_size: int,
    workers: int = 0,
    memory: bool = False,  # whole photographs are never kept
    **more: Any,
) -> DenseScore:
    loader = dense_evaluation_loader(images, model.spec, model.preprocessing, batch_size=batch_size, workers=workers)
    try:
        return score(model, images, classes, loader, **more)
    finally:
        loader.close()
