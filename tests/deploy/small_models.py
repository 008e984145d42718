"""Toy models with every token mixer in them, for the tests of engines and exports.

All stages share one grid: sizes then stay short formulas, and tracing them takes a second instead of half a minute.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from metaformer.model.build import build
from metaformer.spec.mixer import MixerSpec
from metaformer.spec.model import EmbeddingSpec, ModelSpec, NormSpec, StageSpec

SIDE = 48
"""Of the images that the models are built for; a grid of 6 × 6."""


def named(name: str, **args: Any) -> MixerSpec:
    return MixerSpec(name=name, args=args)


def spec_of(*mixers: Any, norm: str = "group", **first: Any) -> ModelSpec:
    """A block for each mixer on one grid of patches; ``first`` are fields of the first stage."""
    stem, same = EmbeddingSpec(kernel=8, stride=8, padding=0), EmbeddingSpec(kind="none")
    stages = tuple(
        StageSpec(
            depth=1,
            width=16,
            embedding=same if i else stem,
            mixer=mixer,
            norm=NormSpec(kind=norm),  # type: ignore[arg-type]
            **({} if i else first),
        )
        for i, mixer in enumerate(mixers)
    )
    return ModelSpec(stages=stages, num_classes=5, img_size=(SIDE, SIDE))


MAPS = spec_of(named("identity"), named("pooling"), named("depthwise_conv"), named("separable_conv", kernel=3))
ATTENTION = spec_of(
    named("reduced_attention", ratio=2, head_dim=8),
    named("attention", head_dim=8),
    named("fourier", orthonormal=True),
    norm="layer",
)
TIED = spec_of(
    named("random"),
    named("spatial_fc"),
    named("spatial_mlp"),
    named("gating_unit"),
    named("window", mixer=named("attention", head_dim=8, relative_position=True), window=4, shift="roll"),
    named("window", mixer=named("spatial_fc", heads=2), window=4),
    norm="layer",
    position=True,
)
FAMILIES = {"maps": MAPS, "attention": ATTENTION, "tied": TIED}
FREE = ("maps", "attention")
"""Those whose graphs take images of any size."""


def model_of(spec: ModelSpec) -> Any:
    """A model with scales and shifts that are not trivial, so that folding them wrongly shows."""
    torch.manual_seed(0)
    model: nn.Module = build(spec).eval()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                wide = parameter.ndim > 1
                center = 0.0 if wide or name.endswith("bias") else 1.0
                parameter.normal_(center, parameter[0].numel() ** -0.5 if wide else 0.1)
    return model


def random_images(*shape: int) -> Tensor:
    height, width = shape[1:] or (SIDE, SIDE)
    return torch.randn(shape[0], 3, height, width)


def apart(mine: Tensor, theirs: Tensor) -> float:
    """The largest difference over the largest value."""
    assert mine.shape == theirs.shape
    return float((mine - theirs).abs().max() / theirs.abs().max())
