"""``metaformer eval``: a trained model and a data set in, figures out; nothing is written unless a folder is named."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import Progress

from ..data.coco import CocoDataset
from ..data.sets import ImageSplits
from ..errors import DataError, RunError
from ..inference.loaded import LoadedModel, imagenet_classes, load_any, task_of
from ..recipe import DataConfig, Machine
from ..render.numbers import count
from ..tasks.task import work_of
from ..training.device import chosen_device
from .folder import CONFIG, EVALUATION, class_difference, stored_recipe
from .train import open_images

Part = Literal["val", "train", "all"]


def evaluate(
    source: str | Path | None,
    data: DataConfig | None = None,
    *,
    name: str | None = None,
    part: Part | None = None,
    batch_size: int = 64,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    out: Path | None = None,
    console: Console | None = None,
) -> Any:
    """Figures of a trained model on a data set.

    Args:
        source: a run's folder, a weights file or a hub id; None takes the published weights of ``name``.
        data: the images; those of the run where left out.
        name: a row of the zoo, for published weights and for files of others.
        part: which images: those held out or the ``val`` folder, those to train on, or all. Left out, the held-out
            ones; all of them where the data came in one piece and is not what the model was trained on.
        batch_size: images at a time.
        device: where to compute.
        out: a folder for evaluation.json, confusion.png and predictions.png.
        console: where to say what is being done.

    Returns:
        ``Score``, or ``DenseScore`` for a detector or a segmenter.

    Raises:
        InputError: weights or images that cannot be read, or classes that are not the model's.
    """
    console = console or Console(stderr=True)
    choice = data or _own_data(source)
    work = work_of(task_of(source))
    sets = open_images(work, choice, console)
    trained = load_any(source, name, num_classes=len(sets.classes))
    _expect_classes(trained, sets)
    if part is None:
        part = "all" if sets.held_out_here and not _is_own(choice, source) else "val"
    images = _part(sets, part)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("evaluating", total=-(-len(images) // batch_size))
        result = work.score(
            trained.model,
            images,
            sets.classes,
            batch_size=batch_size,
            workers=choice.workers,
            device=chosen_device(Machine(device=device)),
            each_batch=lambda: progress.advance(bar),
        )
    everything = len(sets.train) + len(sets.val)
    if part == "val" and everything > len(images):
        console.print(
            f"{count(len(images))} of {count(everything)} images: the validation part (--part all takes all)",
            style="dim",
            highlight=False,
        )
    if out is not None:
        _write(result, out)
    return result


def _own_data(source: str | Path | None) -> DataConfig:
    """The data of the run that a folder or a file in it belongs to."""
    own = _data_of_run(source)
    if own is None:
        raise DataError("which images? Give --data a folder or the name of a data set")
    return own


def _data_of_run(source: str | Path | None) -> DataConfig | None:
    folders = () if source is None else (Path(source), Path(source).parent)
    run = next((folder for folder in folders if (folder / CONFIG).is_file()), None)
    return None if run is None else stored_recipe(run).data


def _is_own(choice: DataConfig, source: str | Path | None) -> bool:
    """Whether the weights were trained on this data: no for published ones; a file that does not say counts as yes,
    so that nobody scores what was learned."""
    if source is None:
        return False
    own = _data_of_run(source)
    if own is None or own.source == choice.source:
        return True
    return Path(own.source).expanduser().resolve() == Path(choice.source).expanduser().resolve()


def _expect_classes(trained: LoadedModel, sets: ImageSplits) -> None:
    """The data's classes are the model's, in its order; by their number where the weights have no names."""
    if trained.classes is not None and trained.classes != sets.classes:
        raise DataError(f"{trained.origin}: {class_difference(trained.classes, sets.classes)}")
    if trained.model.num_classes != len(sets.classes):
        usual = " (ImageNet's)" if imagenet_classes(trained.model.num_classes) else ""
        raise DataError(
            f"{trained.origin} tells {trained.model.num_classes} classes apart{usual}, the data has "
            f"{len(sets.classes)}; give the data it was trained on, or train it on yours first"
        )


def _part(sets: Any, part: Part) -> Any:
    """Images of one of the parts, or of both."""
    if part != "all":
        return {"val": sets.val, "train": sets.train}[part]
    return (TogetherWithObjects if isinstance(sets.val, CocoDataset) else Together)(sets.train, sets.val)


@dataclass
class Together:
    """Two sets of images as one, whatever is known of each image."""

    first: Any
    second: Any

    def __post_init__(self) -> None:
        self.skips_bad = self.first.skips_bad

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @cached_property
    def labels(self) -> list[int]:
        """Class indices, where each image has one."""
        return [*self.first.labels, *self.second.labels]

    def load(self, index: int) -> Any:
        """The image, with its annotation where it has one; raises ``UnreadableImage``."""
        part, index = self._place(index)
        return part.load(index)

    def name(self, index: int) -> str:
        """A path or a name."""
        part, index = self._place(index)
        return part.name(index)

    def _place(self, index: int) -> tuple[Any, int]:
        beyond = index - len(self.first)
        return (self.second, beyond) if beyond >= 0 else (self.first, index)


@dataclass
class TogetherWithObjects(Together):
    """Two sets of images with objects: those of the second have other numbers then."""

    first: CocoDataset
    second: CocoDataset

    def load(self, index: int) -> Any:
        """The image and its ``Objects``; raises ``UnreadableImage``."""
        image, objects = super().load(index)
        return image, {**objects, "image_id": torch.tensor(index)}

    def ground_truth(self) -> dict[str, Any]:
        """As a set's own, over both."""
        one, two = self.first.ground_truth(), self.second.ground_truth()
        start, taken = len(self.first), len(one["annotations"])
        images = [{**image, "id": image["id"] + start} for image in two["images"]]
        objects = [
            {**found, "id": found["id"] + taken, "image_id": found["image_id"] + start} for found in two["annotations"]
        ]
        return {**one, "images": one["images"] + images, "annotations": one["annotations"] + objects}


def _write(result: Any, folder: Path) -> None:
    from ..render.page import evaluation_parts
    from .report.files import read_evaluation

    if (folder / CONFIG).is_file():
        raise RunError(f"{folder} is a run's folder, whose evaluation belongs to its report; choose another with --out")
    folder.mkdir(parents=True, exist_ok=True)
    result.write(folder / EVALUATION)
    evaluation_parts(read_evaluation(folder), folder)
