"""How bright is an image? The task's object; torch is imported inside its methods."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from metaformer.data.dataset import Dataset, Splits
from metaformer.evaluation import Evaluation
from metaformer.metrics import LOSS, MetricDef
from metaformer.recipe import DataConfig, Recipe
from metaformer.tasks.task import EvaluationOptions, Loaders, PredictionOptions

if TYPE_CHECKING:
    from metaformer.data.inspection import PartSummary

ERROR = MetricDef(name="mean_error", label="mean error", unit="count", better="lower", shown=True)


@dataclass(frozen=True, kw_only=True)
class BrightnessEvaluation(Evaluation):
    """Metrics, and the image that was furthest off."""

    task: str = "brightness"
    worst: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The brightness of one image, 0 to 1."""

    value: float
    file: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"file": str(self.file), "brightness": round(self.value, 6)}

    def draw(self) -> None:
        return None

    def images(self) -> Mapping[str, Image.Image]:
        return {}

    def __rich__(self) -> str:
        return f"{self.file}: {self.value:.0%}"


class Brightness:
    """Implements ``metaformer.tasks.task.Task``."""

    name = "brightness"
    metrics = (LOSS, ERROR)
    layout = "train/ and val/ full of images"
    unit = "images"
    draws = False

    def primary(self, measured: Collection[str] = ()) -> MetricDef:
        return ERROR

    def chance(self, classes: Sequence[str]) -> None:
        return None

    def recognizes(self, data: DataConfig) -> bool:
        return (Path(data.source) / "brightness.txt").is_file()

    def open(self, data: DataConfig, progress: Any = None) -> Splits[None]:
        from metaformer.data.sources import open_unlabeled

        return replace(open_unlabeled(data, progress), classes=("brightness",))

    def inspect(self, splits: Splits[None], progress: Any = None) -> tuple[PartSummary, ...]:
        from metaformer.data.inspection import PartSummary, size_range

        parts = (("train", splits.train), ("val", splits.val))
        counts = [(name, len(dataset)) for name, dataset in parts]
        return tuple(
            PartSummary(name=name, images=count, counts=(count,), occurs_in=(count,), **size_range([]))
            for name, count in counts
        )

    def build(self, recipe: Recipe, splits: Splits[None], spec: Any = None) -> tuple[Any, list[str]]:
        from metaformer.factory.classifier import create_model
        from metaformer.training.randomness import reseed

        reseed(recipe.seed, 0, 0, 0)
        side = recipe.model.img_size or 16
        model = create_model(spec or recipe.model.name, num_classes=1, img_size=(side, side), stem_stride=1)
        model.preprocessing = model.preprocessing.with_changes(crop=1.0)
        return model, []

    def objective(self, recipe: Recipe, splits: Splits[None], model: Any) -> Any:
        from brightness.objective import BrightnessObjective

        return BrightnessObjective()

    def loaders(self, recipe: Recipe, splits: Splits[None], model: Any, progress: Any = None) -> Loaders:
        from brightness.objective import WithBrightness
        from metaformer.data.loading.loader import Loader
        from metaformer.data.loading.schedule import BatchSchedule

        size = recipe.optimizer.batch_size // recipe.optimizer.accumulation
        transform = WithBrightness(model)
        return Loaders(
            train=Loader(
                splits.train, transform, BatchSchedule(len(splits.train), size, seed=recipe.seed, shuffle=True)
            ),
            val=Loader(splits.val, transform, BatchSchedule(len(splits.val), size)),
        )

    def evaluate(
        self, model: Any, dataset: Dataset[None], classes: Sequence[str], options: EvaluationOptions
    ) -> BrightnessEvaluation:
        from brightness.objective import BrightnessObjective, WithBrightness
        from metaformer.data.loading.loader import Loader
        from metaformer.data.loading.schedule import BatchSchedule
        from metaformer.training.evaluation import measure

        objective = BrightnessObjective()
        loader = Loader(dataset, WithBrightness(model), BatchSchedule(len(dataset), options.batch_size))
        measured = measure(model.to(options.device), objective, loader, device=options.device)
        errors = [error for part in measured.parts for _, error in part]
        worst = dataset.name(errors.index(max(errors)))
        metrics, images = measured.metrics, measured.samples
        return BrightnessEvaluation(metrics=metrics, classes=tuple(classes), images=images, worst=worst)

    def read_evaluation(self, data: Mapping[str, Any]) -> BrightnessEvaluation:
        return BrightnessEvaluation.from_dict(data)

    def prepare(self, model: Any, image: Image.Image) -> Any:
        from metaformer.data.transforms.image import evaluation_transform

        return evaluation_transform(model.preprocessing, model.spec.in_chans)(image)

    def random_inputs(self, model: Any, count: int) -> list[Any]:
        from metaformer.tasks.synthetic import smooth_noise

        return smooth_noise(count, model.spec.in_chans, model.preprocessing.size)

    def predict(
        self, model: Any, images: Sequence[Image.Image], classes: Sequence[str], options: PredictionOptions
    ) -> list[Result]:
        import torch

        batch = torch.stack([self.prepare(model, image) for image in images])
        with torch.inference_mode():
            return [Result(value=float(value)) for value in model(batch.to(options.device)).sigmoid()[:, 0]]

    def collect(self, results: Sequence[Result]) -> Mapping[str, Any]:
        return {"brightness.json": json.loads(json.dumps([result.to_dict() for result in results]))}

    def sections(self, evaluation: BrightnessEvaluation, folder: Path) -> list[Markup]:
        return [Markup("<h2>Furthest off</h2><p>{}</p>").format(Path(evaluation.worst).name)]

    def input_rows(self, spec: Any, preprocessing: Any) -> list[tuple[str, str]]:
        return [("Input", f"{preprocessing.size[0]} × {preprocessing.size[1]} pixels")]


def true_brightness(image: Image.Image) -> float:
    """The mean of the pixels, 0 to 1."""
    from numpy import asarray

    return float(asarray(image).mean() / 255)
