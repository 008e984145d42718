"""A trained model and labeled images in; figures, a confusion matrix and a few images with answers out.

What comes out is what ``evaluation.json`` holds and what the report shows. K classes, N images.
"""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ...data.loading.loader import evaluation_loader
from ...data.sets import LabeledImages
from ...training.evaluation import evaluate
from ...types import Batch, Preprocessing
from ...weights.safetensors_io import replace_file
from .objective import Classification, ClassificationMetric

SAMPLES = 24
_THUMBNAIL = 160  # pixels on the longer side; more would only make the page heavy


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a model came to on a set of images."""

    figures: Mapping[str, float]
    """``loss``, ``top1``, ``top5``; shares in [0, 1]."""
    classes: tuple[str, ...]
    confusion: list[list[int]]
    """(K, K) counts, rows are true classes and columns predicted ones; empty for very many classes."""
    samples: list[dict[str, Any]]
    """Images with their true class and the five likeliest: the surest mistakes, then others drawn by a seed."""
    images: int
    """N."""

    def to_dict(self) -> dict[str, Any]:
        """As ``evaluation.json`` has it."""
        return {
            "figures": dict(self.figures),
            "classes": list(self.classes),
            "confusion": self.confusion,
            "samples": self.samples,
            "images": self.images,
        }

    def write(self, path: Path, **more: Any) -> Path:
        """Write ``evaluation.json``, all or nothing, with ``more`` fields beside."""
        replace_file(path, json.dumps(self.to_dict() | more).encode())
        return path


def score(
    model: nn.Module,
    images: LabeledImages,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    *,
    channels: int = 3,
    batch_size: int = 64,
    workers: int = 0,
    memory: bool = False,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    each_batch: Callable[[], None] = lambda: None,
) -> Score:
    """Evaluate ``model`` on all ``images``, each once.

    ``channels`` is what the model takes. With ``memory`` the images come from where this process keeps them decoded.
    Raises ``DataError`` when labels do not fit the model's classes or an image cannot be read.
    """
    task = _Remembering(len(classes))
    loader = evaluation_loader(
        images, preprocessing, channels, memory=memory, device=device, workers=workers, batch_size=batch_size
    )
    try:
        result = evaluate(model.to(device), task, loader, device=device, autocast=autocast, each_batch=each_batch)
    finally:
        loader.close()
    confusion = task.remembered.confusion(result.parts)
    return Score(
        figures=result.figures,
        classes=tuple(classes),
        confusion=[] if confusion is None else confusion.tolist(),
        samples=_samples(images, task.remembered),
        images=len(images),
    )


class _Remembering(Classification):
    """Classification that keeps the five likeliest classes of each image."""

    def metric(self) -> _Answers:
        self.remembered = _Answers(self.num_classes)
        return self.remembered


class _Answers(ClassificationMetric):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.top: list[list[tuple[int, float]]] = []

    def update(self, outputs: Tensor, batch: Batch) -> None:
        super().update(outputs, batch)
        self.top += likeliest(outputs)


def likeliest(logits: Tensor, count: int = 5) -> list[list[tuple[int, float]]]:
    """Logits (B, K) to (class index, probability) pairs for each image, most likely first."""
    shares, indices = logits.float().softmax(dim=1).cpu().topk(min(count, logits.shape[1]), dim=1)
    return [list(zip(i, s, strict=True)) for i, s in zip(indices.tolist(), shares.tolist(), strict=True)]


def _samples(images: LabeledImages, answers: _Answers) -> list[dict[str, Any]]:
    """Up to half the places go to the surest mistakes, the rest are drawn from all others."""
    everyone = range(len(images))
    wrong = [i for i in everyone if answers.top[i][0][0] != images.labels[i]]
    shown = sorted(wrong, key=lambda i: -answers.top[i][0][1])[: SAMPLES // 2]
    others = [i for i in everyone if i not in set(shown)]
    shown += random.Random(0).sample(others, min(len(others), SAMPLES - len(shown)))
    return [
        {
            "name": images.name(i),
            "label": images.labels[i],
            "top": [[index, round(share, 6)] for index, share in answers.top[i]],
            "thumbnail": thumbnail(images.load(i)),
        }
        for i in shown
    ]


def thumbnail(image: Image.Image) -> str:
    """A small PNG as base64."""
    small = image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
