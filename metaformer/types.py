"""What travels between the rooms: grids, batches, pyramids, preprocessing, and the protocols of a task.

Letters used for shapes everywhere: B batch, C channels (the width), H and W rows and columns, N tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Literal, Protocol

from .records import Record

if TYPE_CHECKING:
    from torch import Tensor

Grid = tuple[int, ...]
"""The shape the tokens stand in: ``(H, W)`` for pictures, ``(L,)`` for text; ``prod(grid)`` tokens, row by row."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Record):
    """How a picture becomes a model's input at evaluation: resize the short side, centre crop, normalise."""

    size: tuple[int, int] = (224, 224)
    """Height and width in pixels that the model sees."""
    crop: float = 0.875
    """The crop's share of the resized picture; 0.9 resizes the short side to floor(224 / 0.9) = 248."""
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
    """Pictures and what is known of them."""

    images: Tensor
    """(B, C, H, W), normalised float32."""
    targets: Tensor
    """(B,) class indices, or (B, K) class probabilities once pictures were mixed."""

    def to(self, device: object) -> Batch:
        """The same batch on another device."""
        return Batch(
            self.images.to(device, non_blocking=True),  # type: ignore[call-overload]
            self.targets.to(device, non_blocking=True),  # type: ignore[call-overload]
        )

    def __len__(self) -> int:
        return self.images.shape[0]


Pyramid = dict[str, "Tensor"]
"""Feature maps keyed by level: ``{"stride4": (B, C1, H/4, W/4), ...}``."""


class Metric(Protocol):
    """Accumulates over batches into one tensor, so that processes are joined by a sum."""

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take one batch of raw model outputs into account."""

    @property
    def total(self) -> Tensor:
        """Everything seen so far as one float64 tensor; the sum over processes is the whole set's."""

    def compute(self, total: Tensor) -> Mapping[str, float]:
        """Named figures from a total, such as ``{"loss": 0.4, "top1": 0.91}``."""


class Task(Protocol):
    """Predictions and labels to a loss and to figures. A task never builds a layer."""

    best: str
    """The figure that decides which weights are the best, larger is better (``"top1"``)."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The mean loss over the batch, a scalar."""

    def correct(self, outputs: Tensor, batch: Batch) -> Tensor | None:
        """How many of the batch are answered right, a scalar; nothing where that has no meaning."""

    def metric(self) -> Metric:
        """A fresh accumulator."""
