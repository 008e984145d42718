"""The models of the second paper: IdentityFormer, RandFormer, PoolFormerV2, ConvFormer, CAFormer.

Source: "MetaFormer Baselines for Vision" (arXiv 2210.13452), sections 2 and 3; counts and accuracies of the released
models. Against the first paper's frame: StarReLU, no biases inside the blocks, ResScale on the shortcuts of the last
two stages instead of LayerScale, a norm beside every embedding, and the final norm behind the pooling.
"""

from __future__ import annotations

from ..spec.mixer import MixerSpec
from ..spec.model import EmbeddingSpec, HeadSpec, MLPSpec, ModelSpec, NormSpec, ResidualSpec, StageSpec
from ..types import Preprocessing
from .poolformer import MEDIUM, POOLING, SMALL
from .published_model import PublishedModel, WeightSource

CHANNEL_NORM = NormSpec(kind="layer", eps=1e-6, bias=False)
GROUP_NORM = NormSpec(kind="group", eps=1e-6, bias=False)
STEM = EmbeddingSpec(kernel=7, stride=4, padding=2, norm=CHANNEL_NORM, norm_position="after")
DOWN = EmbeddingSpec(kernel=3, stride=2, padding=1, norm=CHANNEL_NORM, norm_position="before")
MLP = MLPSpec(ratio=4.0, activation="star_relu", bias=False)

IDENTITY = MixerSpec(name="identity")
RANDOM = MixerSpec(name="random")
SEPARABLE_CONV = MixerSpec(name="separable_conv")
ATTENTION = MixerSpec(name="attention", args={"head_dim": 32, "qkv_bias": False, "proj_bias": False})

LINEAR_HEAD = HeadSpec(norm=NormSpec(eps=1e-6), norm_position="after")
MLP_HEAD = HeadSpec(norm=NormSpec(eps=1e-6), norm_position="after", kind="mlp")

PAPER = "2210.13452"


def baseline_frame(
    depths: tuple[int, ...],
    widths: tuple[int, ...],
    mixers: tuple[MixerSpec, ...],
    norm: NormSpec,
    head: HeadSpec,
) -> ModelSpec:
    """The second paper's frame."""
    stages = tuple(
        StageSpec(
            depth=depth,
            width=width,
            embedding=DOWN if i else STEM,
            mixer=mixer,
            mlp=MLP,
            norm=norm,
            residual=ResidualSpec(skip_scale=1.0 if i >= 2 else None),
        )
        for i, (depth, width, mixer) in enumerate(zip(depths, widths, mixers, strict=True))
    )
    return ModelSpec(stages=stages, head=head, init="trunc_normal")


def _official(family: str, name: str) -> WeightSource:
    return WeightSource(repo="sail/dl", file=f"{family}/{name}.pth")


# --- basic mixers, linear head (section 3.1) -------------------------------------------------------------------

_SIZES = {
    "s12": ((2, 2, 6, 2), SMALL),
    "s24": ((4, 4, 12, 4), SMALL),
    "s36": ((6, 6, 18, 6), SMALL),
    "m36": ((6, 6, 18, 6), MEDIUM),
    "m48": ((8, 8, 24, 8), MEDIUM),
}
_BASIC = {
    "identityformer": ("IdentityFormer", (IDENTITY,) * 4),
    "randformer": ("RandFormer", (IDENTITY, IDENTITY, RANDOM, RANDOM)),
    "poolformerv2": ("PoolFormerV2", (POOLING,) * 4),
}
# size: parameters and MACs (10⁹) without and with the frozen random matrices, top-1 of identity, random, pooling
_BASIC_TABLE = {
    "s12": (11_891_712, 1.8123, 12_127_010, 1.8885, 74.6, 76.6, 78.0),
    "s24": (21_341_464, 3.3922, 21_812_060, 3.5447, 78.2, 78.2, 80.7),
    "s36": (30_791_216, 4.9722, 31_497_110, 5.2008, 79.3, 79.5, 81.6),
    "m36": (56_077_168, 8.7588, 56_783_062, 9.0354, 80.0, 81.2, 82.2),
    "m48": (73_346_056, 11.5333, 74_287_248, 11.9021, 80.4, 81.4, 82.6),
}


def _basic(key: str, size: str) -> PublishedModel:
    family, mixers = _BASIC[key]
    name = f"{key}_{size}"
    parameters, macs, random_parameters, random_macs, *accuracy = _BASIC_TABLE[size]
    random = key == "randformer"
    hub = (WeightSource(repo=f"timm/{name}.sail_in1k"),) if key == "poolformerv2" else ()
    return PublishedModel(
        name=name,
        family=family,
        spec=baseline_frame(*_SIZES[size], mixers, GROUP_NORM, LINEAR_HEAD),
        parameters=int(random_parameters if random else parameters),
        macs=random_macs if random else macs,
        top1=accuracy[list(_BASIC).index(key)],
        preprocessing=Preprocessing(crop=1.0),
        weights=(*hub, _official(key, name)),
        paper=PAPER,
    )


# --- common mixers, MLP head (section 3.2) ---------------------------------------------------------------------

_DEPTHS = {"s18": (3, 3, 9, 3), "s36": (3, 12, 18, 3), "m36": (3, 12, 18, 3), "b36": (3, 12, 18, 3)}
_WIDTHS = {"s18": SMALL, "s36": SMALL, "m36": (96, 192, 384, 576), "b36": (128, 256, 512, 768)}
_COMMON = {
    "convformer": ("ConvFormer", (SEPARABLE_CONV,) * 4),
    "caformer": ("CAFormer", (SEPARABLE_CONV, SEPARABLE_CONV, ATTENTION, ATTENTION)),
}
# parameters, MACs (10⁹) at 224 and 384, top-1 (1K 224, 1K 384, 21K→1K 224, 21K→1K 384), parameters with 21,841 classes
_COMMON_TABLE = {
    "convformer_s18": (26_774_448, 3.956, 11.621, 83.0, 84.4, 83.7, 85.0, 69_477_657),
    "convformer_s36": (40_012_152, 7.670, 22.534, 84.1, 85.4, 85.4, 86.4, 82_715_361),
    "convformer_m36": (57_051_640, 12.884, 37.856, 84.5, 85.6, 86.1, 86.9, 105_090_145),
    "convformer_b36": (99_882_616, 22.685, 66.655, 84.8, 85.7, 87.0, 87.6, 163_927_009),
    "caformer_s18": (26_341_656, 4.122, 13.412, 83.6, 85.0, 84.1, 85.4, 69_044_865),
    "caformer_s36": (39_297_102, 8.002, 26.073, 84.5, 85.7, 85.8, 86.9, 82_000_311),
    "caformer_m36": (56_204_878, 13.282, 42.099, 85.2, 86.2, 86.6, 87.5, 104_243_383),
    "caformer_b36": (98_753_614, 23.216, 72.313, 85.5, 86.4, 87.4, 88.1, 162_798_007),
}
# suffix of the original's name: image side, timm's tag, which top-1, whether the head has the 21,841 classes of 21K
_VARIANTS: dict[str, tuple[int, str, int | None]] = {
    "": (224, "sail_in1k", 3),
    "_384": (384, "sail_in1k_384", 4),
    "_in21ft1k": (224, "sail_in22k_ft_in1k", 5),
    "_384_in21ft1k": (384, "sail_in22k_ft_in1k_384", 6),
    "_in21k": (224, "sail_in22k", None),
}


def _common(base: str, suffix: str) -> PublishedModel:
    key, size = base.split("_")
    family, mixers = _COMMON[key]
    side, tag, accuracy = _VARIANTS[suffix]
    table = _COMMON_TABLE[base]
    spec = baseline_frame(_DEPTHS[size], _WIDTHS[size], mixers, CHANNEL_NORM, MLP_HEAD).with_changes(
        img_size=(side, side)
    )
    large = suffix == "_in21k"
    if large:
        spec = spec.with_changes(num_classes=21_841)
    extra_macs = (21_841 - 1000) * 4 * spec.stages[-1].width / 1e9 if large else 0.0
    return PublishedModel(
        name=base + suffix,
        family=family,
        spec=spec,
        parameters=int(table[7] if large else table[0]),
        macs=(table[2] if side == 384 else table[1]) + extra_macs,
        top1=None if accuracy is None else table[accuracy],
        preprocessing=Preprocessing(size=(side, side), crop=1.0),
        weights=(WeightSource(repo=f"timm/{base}.{tag}"), _official(key, base + suffix)),
        paper=PAPER,
    )


MODELS = tuple(_basic(key, size) for key in _BASIC for size in _SIZES) + tuple(
    _common(base, suffix) for base in _COMMON_TABLE for suffix in _VARIANTS
)
