"""What a detector or a segmenter comes to: figures, tables, curves, and images with its answer beside the truth.

What comes out is what ``evaluation.json`` holds and what the report shows. K classes, N images.
"""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from ...data.annotated import Annotated
from ...data.decode import UnreadableImage
from ...data.transforms.paired import segmenter_input
from ...render.annotate import draw_detections, draw_label_map, shrunk
from ...training.evaluation import Batches, evaluate
from ...types import Objects
from ...weights.safetensors_io import replace_file
from ..detection.average_precision import AveragePrecision, Found, decoded
from ..detection.objective import Detection
from ..segmentation.objective import IGNORED, Segmentation, class_shares, resized

SAMPLES = 12
DRAWN_FROM = 0.3
"""Score from which a found object is drawn in a sample."""
_SIDE = 480  # pixels on a sample's longer side; more would only make the page heavy


@dataclass(frozen=True, kw_only=True)
class DenseScore:
    """What a detector or a segmenter came to on a set of images."""

    task: Literal["detection", "segmentation"]
    figures: Mapping[str, float]
    """``box_ap``, ``mask_ap50``, ..., or ``loss``, ``miou``, ...; shares in [0, 1] except the loss."""
    classes: tuple[str, ...]
    table: list[dict[str, Any]]
    """A row for each class that occurs: its ``label``, how much of it there is, how well it was found."""
    curves: list[dict[str, Any]] = field(default_factory=list)
    """Precision at the recalls 0, .01, ... 1 of each ``kind`` (box, mask) and each ``label`` (None for the mean over
    the classes): at an overlap of .5 (``iou50``) and as the mean over COCO's overlaps (``mean``)."""
    confusion: list[list[int]] = field(default_factory=list)
    """(K, K) pixels, rows are true classes and columns predicted ones; for segmentation."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Images drawn by a seed, JPEG as base64: the ``prediction`` beside the ``truth``, with what is right in it."""
    images: int
    """N."""

    def to_dict(self) -> dict[str, Any]:
        """As ``evaluation.json`` has it."""
        return asdict(self) | {"figures": dict(self.figures), "classes": list(self.classes)}

    def write(self, path: Path, **more: Any) -> Path:
        """Write ``evaluation.json``, all or nothing, with ``more`` fields beside."""
        replace_file(path, json.dumps(self.to_dict() | more).encode())
        return path


def score_detection(
    model: nn.Module,
    images: Any,
    classes: Sequence[str],
    loader: Batches,
    *,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    each_batch: Callable[[], None] = lambda: None,
) -> DenseScore:
    """Evaluate a detector on all of ``loader``, whose images ``images`` are: ``Annotated`` with ``ground_truth()``.

    Masks are judged where the model finds masks.

    Raises:
        DataError: labels that do not fit the model's classes, no object to find, or an image that cannot be read.
    """
    masks = bool(model.spec.finds_masks)  # type: ignore[union-attr]
    task = Detection(images.ground_truth(), len(classes), masks)
    result = evaluate(model.to(device), task, loader, device=device, autocast=autocast, each_batch=each_batch)
    metric = task.metric()
    judged = [metric.matched(result.parts, kind) for kind in metric.kinds]
    found = {entry.image: entry for part in result.parts for entry in part}
    return DenseScore(
        task="detection",
        figures=result.figures,
        classes=tuple(classes),
        table=_object_table(judged),
        curves=[curve for one in judged for curve in _curves(one)],
        samples=[_object_sample(images, found[i], classes, masks) for i in _chosen(sorted(found))],
        images=result.images,
    )


def score_segmentation(
    model: nn.Module,
    images: Annotated,
    classes: Sequence[str],
    loader: Batches,
    *,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    each_batch: Callable[[], None] = lambda: None,
) -> DenseScore:
    """Evaluate a segmenter on all of ``loader``, whose images ``images`` are.

    Raises:
        DataError: label maps that do not fit the model's classes or have no label, or an image that cannot be read.
    """
    task = Segmentation(len(classes), classes)
    result = evaluate(model.to(device), task, loader, device=device, autocast=autocast, each_batch=each_batch)
    confusion = task.metric().confusion(result.parts)
    return DenseScore(
        task="segmentation",
        figures=result.figures,
        classes=tuple(classes),
        table=[asdict(row) for row in class_shares(confusion) if row.iou is not None],
        confusion=confusion.tolist(),
        samples=list(_label_samples(model, images, device, autocast)),
        images=result.images,
    )


def _object_table(judged: Sequence[AveragePrecision]) -> list[dict[str, Any]]:
    """``label``, ``objects``, then ``box_ap``, ``box_ap50``, ... of each class that the truth has."""
    rows: dict[int, dict[str, Any]] = {}
    for one in judged:
        for row in one.classes:
            named = {f"{one.kind}_{name}": getattr(row, name) for name in ("ap", "ap50", "ap75", "ar")}
            rows.setdefault(row.label, {"label": row.label, "objects": row.objects}).update(named)
    return list(rows.values())


def _curves(judged: AveragePrecision) -> Iterator[dict[str, Any]]:
    for label in (None, *(row.label for row in judged.classes)):
        yield {
            "kind": judged.kind,
            "label": label,
            "iou50": _short(judged.curve(label)),
            "mean": _short(judged.curve(label, iou_50=False)),
        }


def _short(values: NDArray[np.float64]) -> list[float]:
    return [round(value, 5) for value in values.tolist()]


def _chosen(indices: Sequence[int]) -> list[int]:
    """Up to ``SAMPLES`` of them, always the same, in their order."""
    return sorted(random.Random(0).sample(indices, min(len(indices), SAMPLES)))


def _object_sample(images: Any, found: Found, classes: Sequence[str], masks: bool) -> dict[str, Any]:
    image, truth = images.load(found.image)
    shown = shrunk(image, _SIDE)
    ratio = np.array([shown.width / image.width, shown.height / image.height] * 2)
    sure = found.scores >= DRAWN_FROM
    runs = [run for run, kept in zip(found.masks or (), sure, strict=False) if kept]
    labels = found.labels[sure].tolist()
    predicted = draw_detections(
        shown,
        found.boxes[sure] * ratio,
        labels,
        classes,
        scores=found.scores[sure].tolist(),
        masks=_small_masks([decoded(run) for run in runs], shown.size) if masks else None,
    )
    drawn = draw_detections(
        shown,
        truth["boxes"].numpy() * ratio,
        truth["labels"].tolist(),
        classes,
        masks=_small_masks(list(truth["masks"].numpy()), shown.size) if masks else None,
    )
    hits = matches(found.boxes[sure], labels, truth)
    return {
        "name": images.name(found.image),
        "objects": len(truth["labels"]),
        "found": hits,
        "invented": len(labels) - hits,
        "labels": sorted({*labels, *truth["labels"].tolist()}),
        "prediction": _jpeg(predicted),
        "truth": _jpeg(drawn),
    }


def _small_masks(masks: Sequence[NDArray[np.uint8]], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(G, h, w) masks in a sample's size, (w, h)."""
    small = [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in masks]
    return np.array(small, dtype=np.uint8).reshape(-1, size[1], size[0])


def matches(boxes: NDArray[np.float64], labels: Sequence[int], truth: Objects) -> int:
    """How many of the objects found are in the truth: of its class, at an overlap of at least .5, each once.

    ``boxes`` (G, 4) and ``labels`` (G,) are best first.
    """
    free = set(range(len(truth["labels"])))
    real = truth["boxes"].double().numpy()
    hits = 0
    for box, label in zip(boxes, labels, strict=True):
        overlaps = {i: _overlap(box, real[i]) for i in free if int(truth["labels"][i]) == label}
        best = max(overlaps, key=lambda i: overlaps[i], default=None)
        if best is not None and overlaps[best] >= 0.5:
            free.remove(best)
            hits += 1
    return hits


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(sides.clip(0)))
    together = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common
    return common / together if together > 0 else 0.0


def _label_samples(
    model: nn.Module,
    images: Annotated,
    device: torch.device | str,
    autocast: Callable[[], AbstractContextManager],
) -> Iterator[dict[str, Any]]:
    """The images are read and answered once more, so that no answer has to be kept while all are evaluated."""
    for index in _chosen(range(len(images))):
        try:
            image, truth = images.load(index)
        except UnreadableImage:
            continue  # it was left out of the evaluation as well
        answer = label_map(model, image, device, autocast)
        counted = truth.numpy() != IGNORED
        right = (answer == truth.numpy()) & counted
        shown = shrunk(image, _SIDE)
        predicted, true = (_small_map(labels, shown.size) for labels in (answer, truth.numpy().astype(np.uint8)))
        yield {
            "name": images.name(index),
            "pixel_accuracy": float(right.sum() / counted.sum()) if counted.any() else None,
            "labels": sorted({*np.unique(predicted).tolist(), *np.unique(true).tolist()} - {IGNORED}),
            "prediction": _jpeg(draw_label_map(shown, predicted)),
            "truth": _jpeg(draw_label_map(shown, true)),
        }


@torch.no_grad()
def label_map(
    model: nn.Module,
    image: Image.Image,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> NDArray[np.uint8]:
    """(H, W) the likeliest class of each pixel of an image in ``RGB``, by a segmenter with a spec, at its own size."""
    training = model.training
    model.eval()
    spec: Any = model.spec
    preprocessing: Any = model.preprocessing
    pixels = segmenter_input(image, spec, preprocessing).to(device)
    with autocast():
        logits = model(pixels[None])[0]
    model.train(training)
    return resized(logits, (image.height, image.width)).argmax(dim=0).to(torch.uint8).cpu().numpy()


def _small_map(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


def _jpeg(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()
