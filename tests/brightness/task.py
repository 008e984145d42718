"""How bright is an image? The task's object; torch is imported inside its methods."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from metaformer.data.decode import read_image
from metaformer.data.sets import BadFile
from metaformer.errors import DataError
from metaformer.evaluation import Evaluation
from metaformer.metrics import LOSS, MetricDef
from metaformer.recipe import DataConfig, Recipe
from metaformer.tasks.task import EvaluationOptions, Loaders, PredictionOptions

ERROR = MetricDef(name="mean_error", label="mean error", unit="count", better="lower", shown=True)


@dataclass(frozen=True)
class Images:
    """Files without labels."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Image.Image:
        return read_image(self.paths[index])


@dataclass(frozen=True)
class Splits:
    """What the run is trained and evaluated on. There are no classes; the model's only output is called brightness."""

    train: Images
    val: Images
    classes: tuple[str, ...] = ("brightness",)
    channels: int = 3
    skipped: tuple[BadFile, ...] = ()
    held_out_here: bool = False


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

    def open(self, data: DataConfig, progress: Any = None) -> Splits:
        parts = [sorted(Path(data.source, part).glob("*.png")) for part in ("train", "val")]
        if not all(parts):
            raise DataError(f"{data.source}: expected {self.layout}")
        return Splits(Images(tuple(parts[0])), Images(tuple(parts[1])))

    def inspect(self, name: Any, dataset: Images, classes: int, bad: Any, progress: Any = None) -> Any:
        from metaformer.data.inspection import PartFigures

        counts = (len(dataset),)
        return PartFigures(
            name=name, images=len(dataset), smallest=None, median=None, largest=None, counts=counts, occurs_in=counts
        )

    def build(self, recipe: Recipe, splits: Splits, spec: Any = None) -> tuple[Any, list[str]]:
        from metaformer.factory.classifier import create_model
        from metaformer.training.randomness import reseed

        reseed(recipe.seed, 0, 0, 0)
        side = recipe.model.img_size or 16
        model = create_model(spec or recipe.model.name, num_classes=1, img_size=(side, side), stem_stride=1)
        model.preprocessing = model.preprocessing.with_changes(crop=1.0)
        return model, []

    def objective(self, recipe: Recipe, splits: Splits, model: Any) -> Any:
        from brightness.objective import BrightnessObjective

        return BrightnessObjective()

    def loaders(self, recipe: Recipe, splits: Splits, model: Any, progress: Any = None) -> Loaders:
        from brightness.objective import Batches

        size = recipe.optimizer.batch_size // recipe.optimizer.accumulation
        return Loaders(
            train=Batches(splits.train, model, size, recipe.seed), val=Batches(splits.val, model, size, None)
        )

    def evaluate(
        self, model: Any, dataset: Images, classes: Sequence[str], options: EvaluationOptions
    ) -> BrightnessEvaluation:
        from brightness.objective import Batches, BrightnessObjective
        from metaformer.training.evaluation import measure

        objective = BrightnessObjective()
        loader = Batches(dataset, model, options.batch_size, None)
        measured = measure(model.to(options.device), objective, loader, device=options.device)
        errors = [error for part in measured.parts for _, error in part]
        worst = str(dataset.paths[errors.index(max(errors))])
        return BrightnessEvaluation(
            metrics=measured.metrics, classes=tuple(classes), images=measured.samples, worst=worst
        )

    def read_evaluation(self, data: Mapping[str, Any]) -> BrightnessEvaluation:
        return BrightnessEvaluation.from_dict(data)

    def prepare(self, model: Any, image: Image.Image) -> Any:
        from metaformer.data.transforms.image import evaluation_transform

        return evaluation_transform(model.preprocessing, model.spec.in_chans)(image)

    def random_inputs(self, model: Any, count: int) -> list[Any]:
        from metaformer.tasks.made_up import smooth_noise

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


def true_brightness(path: Path) -> float:
    """The mean of the pixels, 0 to 1."""
    from numpy import asarray

    return float(asarray(read_image(path)).mean() / 255)
