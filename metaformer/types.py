"""What travels between the rooms: grids, batches, preprocessing, and what a trainer knows of a task.

Letters used for shapes everywhere: B batch, C channels (the width), H and W rows and columns, N tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .metrics import MetricDef
from .records import Record

if TYPE_CHECKING:
    from torch import Tensor

Grid = tuple[int, ...]
"""The shape the tokens stand in: ``(H, W)`` for images, ``(L,)`` for text; ``prod(grid)`` tokens, row by row."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Record):
    """How an image becomes a model's input at evaluation: resize the short side, center crop, normalize."""

    size: tuple[int, int] = (224, 224)
    """Height and width in pixels that the model sees."""
    crop: float = 0.875
    """The crop's share of the resized image; 0.9 resizes the short side to floor(224 / 0.9) = 248."""
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    """One per channel, of pixels in [0, 1]."""
    std: tuple[float, ...] = IMAGENET_STD

    def check(self) -> None:
        """Sizes are positive, the crop is a share, one mean and std per channel."""
        self.expect(min(self.size) > 0, "size", "positive height and width", self.size)
        self.expect(0 < self.crop <= 1, "crop", "a share in (0, 1]", self.crop)
        self.expect(len(self.mean) == len(self.std), "std", f"{len(self.mean)} values as in mean", self.std)
        self.expect(min(self.std) > 0, "std", "positive values", self.std)

    @property
    def resize(self) -> int:
        """The short side in pixels before the crop."""
        return floor(max(self.size) / self.crop)


@dataclass
class Batch:
    """Samples and what is known of them: tensors where all inputs share a size, lists of B where they do not."""

    inputs: Any
    """Images (B, C, H, W) float32, or (C, H, W) each; normalized for classifiers and segmenters, in [0, 1] for
    detectors. Token ids (B, L) int64 for text."""
    targets: Any
    """(B,) class indices, or (B, K) class probabilities once images were mixed; label maps (B, H, W) or (H, W) each;
    for detectors a mapping for each image (``Objects``). None where nothing is known of the samples."""
    mask: Tensor | None = None
    """(B, N), True where a token is real; None where all are."""

    def to(self, device: object) -> Batch:
        """The same batch on another device."""
        return Batch(_moved(self.inputs, device), _moved(self.targets, device), _moved(self.mask, device))

    def __len__(self) -> int:
        return len(self.inputs)


IGNORED = 255
"""What pixels without a class have in a label map, once it is read."""

Objects = dict[str, "Tensor"]
"""What is in one image, for G objects: ``boxes`` (G, 4) float32, left, top, right, bottom in pixels of the image;
``labels`` (G,) int64 from 0 to K - 1; ``masks`` (G, H, W) uint8 where there are any; ``image_id`` () int64, the
image's index in its set. What a model found has ``scores`` (G,) beside, best first."""


def _moved(value: Any, device: object) -> Any:
    """Tensors in lists and mappings on another device."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    return value.to(device, non_blocking=True)


class Metric(Protocol):
    """Accumulates over batches; the parts of several processes together are the whole set's."""

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take one batch of raw model outputs into account."""

    @property
    def part(self) -> Any:
        """Everything this process has seen so far, as something that can be pickled."""

    def compute(self, parts: Sequence[Any]) -> Mapping[str, float]:
        """Values by metric name from the parts of all processes, such as ``{"loss": 0.4, "top1": 0.91}``."""


class Objective(Protocol):
    """What a run optimizes and is measured by: model outputs and targets to a loss and to metrics.

    One for each run (``tasks/NAME/objective.py``); the trainer knows no more of a task than this. It never builds a
    layer.
    """

    @property
    def metrics(self) -> tuple[MetricDef, ...]:
        """What ``metric`` computes, in the order of a run's ``metrics.csv``; some may be absent."""

    @property
    def primary(self) -> MetricDef:
        """The metric that decides which weights are the best."""

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the metrics that ``count`` gives while training."""

    def forward(self, model: Any, batch: Batch) -> Any:
        """What the model says of a batch, in the mode it is in: the call itself, as this task's models want it."""

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """The mean loss over the batch, a scalar, of what the model said in training mode."""

    def count(self, outputs: Any, batch: Batch) -> Mapping[str, tuple[Tensor | float, float]]:
        """Right answers and counted answers of the batch, by metric; empty where that has no meaning."""

    def metric(self) -> Metric:
        """A fresh accumulator."""
