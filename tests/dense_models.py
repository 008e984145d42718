"""Small models, images and objects that the tests of dense prediction share."""

from typing import Any

import torch
from torch import Tensor

from metaformer import EmbeddingSpec, MixerSpec, ModelSpec, NormSpec, StageSpec
from metaformer.types import Objects

CLASSES = 3


def pyramid_spec(mixer: str = "pooling", norm: str = "group") -> ModelSpec:
    """Four stages at strides 4 to 32."""
    stem = EmbeddingSpec(kernel=7, stride=4, padding=2)
    stages = tuple(
        StageSpec(
            depth=1,
            width=width,
            embedding=stem if i == 0 else EmbeddingSpec(),
            mixer=MixerSpec(name=mixer),
            norm=NormSpec(kind=norm),  # type: ignore[arg-type]
        )
        for i, width in enumerate((8, 12, 16, 20))
    )
    return ModelSpec(stages=stages, num_classes=5, img_size=(64, 64))


def flat_spec(mixer: str = "attention", stride: int = 16, prefix: int = 1) -> ModelSpec:
    """One stage that cuts the image into patches."""
    patches = EmbeddingSpec(kernel=stride, stride=stride, padding=0)
    args = {"head_dim": 4} if mixer == "attention" else {}
    stage = StageSpec(
        depth=2,
        width=16,
        embedding=patches,
        mixer=MixerSpec(name=mixer, args=args),
        position=True,
        prefix_tokens=prefix,
    )
    return ModelSpec(stages=(stage,), num_classes=5, img_size=(64, 64))


def random_images() -> list[Tensor]:
    """Two images of different shapes."""
    return [torch.rand(3, 50, 70), torch.rand(3, 64, 64)]


def objects() -> list[Objects]:
    """Two objects in the first image and none in the second."""
    masks = torch.zeros(2, 50, 70, dtype=torch.uint8)
    masks[0, 5:40, 5:30] = 1
    masks[1, 10:45, 10:60] = 1
    first = {
        "boxes": torch.tensor([[5.0, 5, 30, 40], [10, 10, 60, 45]]),
        "labels": torch.tensor([0, CLASSES - 1]),
        "masks": masks,
        "image_id": torch.tensor(0),
    }
    second = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 64, 64, dtype=torch.uint8),
        "image_id": torch.tensor(1),
    }
    return [first, second]


def lightened(model: Any) -> Any:
    """A detector that looks at few regions, so that its heads cost little."""
    if model.spec.finds_masks:
        model.net.rpn._post_nms_top_n = {"training": 40, "testing": 40}
        model.net.roi_heads.fg_bg_sampler.batch_size_per_image = 16
        model.net.roi_heads.detections_per_img = 5
    return model


SMALL: dict[str, Any] = {"num_classes": CLASSES, "short_side": 64, "long_side": 96}
"""Arguments of small detectors and segmenters."""
