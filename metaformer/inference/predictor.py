"""Run inference with a trained model: images in, results out. No files are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

from PIL import Image

from ..data.decode import Mode, UnreadableImage
from ..errors import DataError, RunError
from ..model.device import resolve_device
from ..recipe import Machine
from ..tasks.task import PredictionOptions, Result, Task, task_named
from .inputs import ImageInput, batches, read, sources
from .loaded import load_any

ResultT = TypeVar("ResultT", bound=Result)


class Predictor(Generic[ResultT]):
    """A trained model with its preprocessing and class names.

    ``Predictor[Detections]("runs/cells")`` tells a type checker the type of the results.

    Args:
        source: a run's folder, a weights file, a hub id, or a model name for its published weights.
        model: a model name, for third-party checkpoints, which do not name their model.
        device: where to compute; ``auto`` selects a GPU when there is one.

    Raises:
        InputError: weights that cannot be read or do not fit.
    """

    def __init__(
        self,
        source: str | Path | None,
        *,
        model: str | None = None,
        device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    ) -> None:
        loaded = load_any(source, model)
        self.device = resolve_device(Machine(device=device))
        self.model = loaded.model.to(self.device).eval()
        self.task: Task = task_named(loaded.task)
        self.classes: tuple[str, ...] = loaded.class_names
        self.skipped: list[UnreadableImage] = []
        """Unreadable files of the last call, with ``on_bad_image="skip"``."""

    def __call__(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        top: int = 5,
        score: float = 0.5,
        batch_size: int = 32,
        on_bad_image: Literal["refuse", "skip"] = "refuse",
    ) -> list[ResultT]:
        """A result for each image: ``ClassScores``, ``Detections`` or ``LabelMap``, with ``to_dict()`` and ``draw()``.

        Args:
            images: files, folders, patterns, PIL images or uint8 arrays (H, W, 3) in RGB; one or many.
            top: the maximum number of classes in a classifier's result.
            score: the minimum score of a detector's objects.
            batch_size: images per batch.
            on_bad_image: raise an error for an unreadable file, or skip it (see ``skipped``).

        Raises:
            DataError: no images, or an unreadable file with ``on_bad_image="refuse"``.
        """
        return list(self.stream(images, top=top, score=score, batch_size=batch_size, on_bad_image=on_bad_image))

    def stream(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        top: int = 5,
        score: float = 0.5,
        batch_size: int = 32,
        on_bad_image: Literal["refuse", "skip"] = "refuse",
    ) -> Iterator[ResultT]:
        """The same results one by one, so that they need not fit into memory together."""
        options = PredictionOptions(top=top, score=score, device=self.device)
        if batch_size < 1:
            raise RunError(f"batch_size: expected at least 1, got {batch_size}")
        self.skipped = []
        for batch in batches(sources(images), batch_size):
            readable = [pair for source in batch if (pair := self._read(source, on_bad_image)) is not None]
            if readable:
                results = self.task.predict(self.model, [image for _, image in readable], self.classes, options)
                # tasks see images only, so that they need not know about files
                for (file, _), result in zip(readable, results, strict=True):
                    yield replace(result, file=file)

    def _read(self, source: Path | Image.Image, on_bad_image: str) -> tuple[Path | None, Image.Image] | None:
        # by the model, not by the file: a gray photograph becomes RGB for a model with three channels
        mode: Mode = "L" if self.model.spec.in_chans == 1 else "RGB"
        try:
            return (source if isinstance(source, Path) else None), read(source, mode)
        except UnreadableImage as error:
            if on_bad_image == "refuse":
                raise DataError(f"{error}. Leave such files out with --on-bad-image skip") from None
            self.skipped.append(error)
            return None


def predict(
    source: str | Path | None,
    images: ImageInput | Iterable[ImageInput],
    *,
    model: str | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    top: int = 5,
    score: float = 0.5,
    batch_size: int = 32,
) -> list[Result]:
    """Run inference on images: ``Predictor(source)(images)`` in one call.

    Raises:
        InputError: weights or images that cannot be read.
    """
    predictor: Predictor[Result] = Predictor(source, model=model, device=device)
    return predictor(images, top=top, score=score, batch_size=batch_size)
