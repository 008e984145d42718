"""ViT and DeiT: one stage, a class token, attention everywhere.

Sources: "An Image is Worth 16x16 Words" (arXiv 2010.11929) and "Training data-efficient image transformers"
(arXiv 2012.12877); sizes and initial values from the authors' codes and from timm. The ViT lines of the comparison
tables are trainings on ImageNet-1K alone that the MLP-Mixer paper reports; their weights were never published.
"""

from __future__ import annotations

from ..spec.mixer import MixerSpec
from ..spec.model import EmbeddingSpec, HeadSpec, ModelSpec, NormSpec, StageSpec
from ..types import Preprocessing
from .published_model import PublishedModel, TableEntry, WeightSource

CHANNEL_NORM = NormSpec(kind="layer", eps=1e-6)
HALF = (0.5, 0.5, 0.5)


def patches(side: int = 16) -> EmbeddingSpec:
    """Squares of the image that do not overlap."""
    return EmbeddingSpec(kernel=side, stride=side, padding=0)


def vit_frame(depth: int, width: int, heads: int, *, prefix_tokens: int = 1, side: int = 224) -> ModelSpec:
    """ViT's frame; with two prefix tokens (class and distillation) the scores are the mean of two heads."""
    stage = StageSpec(
        depth=depth,
        width=width,
        embedding=patches(),
        mixer=MixerSpec(name="attention", args={"heads": heads, "qkv_bias": True}),
        norm=CHANNEL_NORM,
        position=True,
        prefix_tokens=prefix_tokens,
    )
    head = HeadSpec(readout="token", norm=CHANNEL_NORM, kind="averaged" if prefix_tokens > 1 else "linear")
    return ModelSpec(stages=(stage,), head=head, img_size=(side, side), init="vit")


_VIT_NOTE = (
    "The table's accuracy is for training on ImageNet-1K alone, whose weights were never published; timm's default "
    "weights of this name are pre-trained on ImageNet-21K."
)
# name: frame, parameters, MACs (10⁹), the line in print, the nearest published weights
_VIT = {
    "vit_base_patch16_224": (
        vit_frame(12, 768, 12), 86_567_656, 17.583, TableEntry(
            parameters=86, macs=17.6, top1=79.7, source="2111.11418, table 2", note="86.6 rounds to 87",
        ), "timm/vit_base_patch16_224.augreg_in1k",
    ),
    "vit_large_patch16_224": (
        vit_frame(24, 1024, 16), 304_326_632, 61.604, TableEntry(
            parameters=307, macs=63.6, top1=76.1, source="2111.11418, table 2",
            note="rounded numbers from the literature; the counts here are for 224 pixels and 1000 classes",
        ), "timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
    ),
    "vit_base_patch16_384": (
        vit_frame(12, 768, 12, side=384), 86_859_496, 55.540, None, "timm/vit_base_patch16_384.augreg_in1k",
    ),
    "vit_large_patch16_384": (
        vit_frame(24, 1024, 16, side=384), 304_715_752, 191.211, None,
        "timm/vit_large_patch16_384.augreg_in21k_ft_in1k",
    ),
}  # fmt: skip


def _vit(name: str) -> PublishedModel:
    spec, parameters, macs, published, nearest = _VIT[name]
    return PublishedModel(
        name=name,
        family="ViT",
        spec=spec,
        parameters=parameters,
        macs=macs,
        top1=published.top1 if published else None,
        preprocessing=Preprocessing(
            size=spec.img_size, crop=0.9 if spec.img_size == (224, 224) else 1.0, mean=HALF, std=HALF
        ),
        paper="2010.11929",
        nearest=nearest,
        note=_VIT_NOTE,
        published=published,
    )


# size: depth, width, heads; plain and distilled: parameters, MACs (10⁹), top-1, mark of the authors' file
_DEIT_SIZES = {"tiny": (12, 192, 3), "small": (12, 384, 6), "base": (12, 768, 12)}
_DEIT = {
    "tiny": (5_717_416, 1.258, 72.2, "a1311bcf"),
    "small": (22_050_664, 4.608, 79.8, "cd65a155"),
    "base": (86_567_656, 17.583, 81.8, "b5f2ef4d"),
}
_DISTILLED = {
    "tiny": (5_910_800, 1.266, 74.5, "b40b3cf7"),
    "small": (22_436_432, 4.634, 81.2, "649709d9"),
    "base": (87_338_192, 17.676, 83.4, "df68dfff"),
}
_DEIT_IN_PRINT = {
    "small": TableEntry(parameters=22, macs=4.6, top1=79.8, source="2111.11418, table 2"),
    "base": TableEntry(
        parameters=86,
        macs=17.5,
        top1=81.8,
        source="2111.11418, table 2",
        note="86.6 and 17.58 are truncated, not rounded",
    ),
}


def _deit(size: str, distilled: bool) -> PublishedModel:
    name = f"deit_{size}_{'distilled_' if distilled else ''}patch16_224"
    parameters, macs, top1, mark = (_DISTILLED if distilled else _DEIT)[size]
    file = f"{name}-{mark}.pth"
    return PublishedModel(
        name=name,
        family="DeiT",
        spec=vit_frame(*_DEIT_SIZES[size], prefix_tokens=2 if distilled else 1),
        parameters=parameters,
        macs=macs,
        top1=top1,
        preprocessing=Preprocessing(crop=0.9),
        weights=(
            WeightSource(repo=f"timm/{name}.fb_in1k"),
            WeightSource(url=f"https://dl.fbaipublicfiles.com/deit/{file}", file=file),
        ),
        paper="2012.12877",
        published=None if distilled else _DEIT_IN_PRINT.get(size),
    )


MODELS = (
    *(_vit(name) for name in _VIT),
    *(_deit(size, distilled) for distilled in (False, True) for size in _DEIT_SIZES),
)
