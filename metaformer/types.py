"""Types that all packages share: grids, batches, preprocessing, and the objective that a trainer optimizes.

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
    import torch
    from torch import Tensor, nn

Grid = tuple[int, ...]
"""The shape of the tokens: ``(H, W)`` for images, ``(L,)`` for text; ``prod(grid)`` tokens, row by row."""

# red, green and blue over ImageNet's training images; the values that torchvision's and timm's weights expect
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Record):
    """How an image becomes a model's input at evaluation: resize the short side, center crop, normalize."""

    size: tuple[int, int] = (224, 224)
    """Height and width in pixels that the model sees."""
    crop: float = 0.875
    """The crop as a share of the resized image; with 0.9 the short side is resized to floor(224 / 0.9) = 248 pixels."""
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
    """Samples and their targets: tensors where all inputs have one size, lists of B tensors where they do not."""

    inputs: Any
    """Images (B, C, H, W) float32, or (C, H, W) each; normalized for classifiers and segmenters, in [0, 1] for
    detectors. Token ids (B, L) int64 for text."""
    targets: Any
    """(B,) class indices, or (B, K) class probabilities after Mixup or CutMix; label maps (B, H, W) or (H, W) each;
    ``Objects`` for each image for detectors. None for samples without labels."""
    mask: Tensor | None = None
    """(B, N), True where a token is real; None where all are."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(_move(self.inputs, device), _move(self.targets, device), _move(self.mask, device))

    def __len__(self) -> int:
        return len(self.inputs)


IGNORED = 255
"""The label of pixels without a class, in label maps as a dataset loads them."""

Objects = dict[str, "Tensor"]
"""The G objects in one image: ``boxes`` (G, 4) float32, left, top, right, bottom in pixels of the image; ``labels``
(G,) int64 from 0 to K - 1; ``masks`` (G, H, W) uint8 where there are any; ``image_id`` () int64, the index of the image
in its dataset. A model's detections also have ``scores`` (G,), best first."""


def _move(value: Any, device: torch.device | str) -> Any:
    """Tensors in lists and mappings on another device."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_move(item, device) for item in value]
    if isinstance(value, dict):
        return {key: _move(item, device) for key, item in value.items()}
    return value.to(device, non_blocking=True)  # lets a copy from pinned memory overlap with computation


class Metric(Protocol):
    """Accumulates over batches; the parts of all processes together cover the whole dataset."""

    def update(self, outputs: Any, batch: Batch) -> None:
        """Add one batch of model outputs."""

    @property
    def part(self) -> Any:
        """Everything that this process has accumulated; it can be pickled."""

    def compute(self, parts: Sequence[Any]) -> Mapping[str, float]:
        """Values by metric name from the parts of all processes, such as ``{"loss": 0.4, "top1": 0.91}``."""


class Objective(Protocol):
    """What a run optimizes and is measured by: model outputs and targets in, a loss and metrics out.

    Each run has one (``tasks/NAME/objective.py``). It is all that the trainer knows about a task. It has no parameters
    and builds no layers.
    """

    @property
    def metrics(self) -> tuple[MetricDef, ...]:
        """The metrics that ``metric`` computes, in the order of ``metrics.csv``; values may be missing."""

    @property
    def primary(self) -> MetricDef:
        """The metric that selects the best weights."""

    @property
    def running(self) -> tuple[str, ...]:
        """Names of the metrics that ``count`` returns during training."""

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Call the model with a batch, in its present mode; tasks differ in the arguments."""

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """The mean loss over the batch, a scalar, from outputs in training mode."""

    def count(self, outputs: Any, batch: Batch) -> Mapping[str, tuple[Tensor | float, float]]:
        """Correct and counted predictions of the batch, by metric; empty where that has no meaning."""

    def metric(self) -> Metric:
        """A new accumulator."""
