"""A classifier and images in, the most likely classes of each image out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from torch import Tensor

from ...data.transforms.image import evaluation_transform
from ...model.build import Model
from ..task import PredictionOptions

_BAR = 28  # characters


@dataclass(frozen=True)
class ClassScore:
    """One class and its probability."""

    name: str
    index: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """A classifier's prediction for one image."""

    top: tuple[ClassScore, ...]
    """Most likely first."""
    probabilities: NDArray[np.float32] = field(repr=False, compare=False)
    """(K,) for all classes, in the model's order."""
    file: Path | None = None
    """The image's file, where it has one."""

    @property
    def class_name(self) -> str:
        """The most likely class."""
        return self.top[0].name

    @property
    def class_id(self) -> int:
        """The index of the most likely class."""
        return self.top[0].index

    @property
    def confidence(self) -> float:
        """The probability of the most likely class."""
        return self.top[0].probability

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        top = [{"class": s.name, "index": s.index, "probability": round(s.probability, 6)} for s in self.top]
        return {"file": None if self.file is None else str(self.file), "top": top}

    def draw(self) -> None:
        """None; class scores are not drawn."""

    def images(self) -> Mapping[str, Image.Image]:
        """An empty mapping; class scores have no images."""
        return {}

    def __rich__(self) -> RenderableType:
        """The file, and a bar for each class."""
        table = Table.grid(padding=(0, 1))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(width=_BAR)
        table.add_column()
        for rank, score in enumerate(self.top):
            style = "cyan" if rank else "green"
            bar = ProgressBar(total=1.0, completed=score.probability, width=_BAR, complete_style=style)
            # as Text, because a class name may have brackets, which rich takes for markup
            name = Text(score.name, style="" if rank else "bold", overflow="ellipsis")
            table.add_row(f"{score.probability:7.2%}", bar, name)
        return Group(Text(str(self.file or "image"), style="bold"), table, Text())


def prepare(model: Model, image: Image.Image) -> Tensor:
    """(C, H, W) float32: resized, cropped and normalized with the model's preprocessing."""
    return evaluation_transform(model.preprocessing, model.spec.in_chans)(image)


def predict(
    model: Model, images: Sequence[Image.Image], classes: Sequence[str], options: PredictionOptions
) -> list[ClassScores]:
    """The ``options.top`` most likely classes of each image, all images in one batch."""
    transform = evaluation_transform(model.preprocessing, model.spec.in_chans)
    batch = torch.stack([transform(image) for image in images])
    with torch.inference_mode():
        shares = model(batch.to(options.device)).float().softmax(dim=1).cpu()
    best = shares.topk(min(options.top, shares.shape[1]), dim=1)
    return [
        ClassScores(
            top=tuple(ClassScore(classes[i], i, p) for i, p in zip(indices.tolist(), values.tolist(), strict=True)),
            probabilities=row.numpy(),
        )
        for row, values, indices in zip(shares, best.values, best.indices, strict=True)
    ]
