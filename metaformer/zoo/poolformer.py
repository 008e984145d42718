"""PoolFormer and the other models of the first paper: identity and hybrid token mixers in the S12 frame.

Source: "MetaFormer Is Actually What You Need for Vision" (arXiv 2111.11418), tables 1, 2 and 5; initial values and
norms from the original code. The paper's printed parameter counts leave LayerScale out; the counts here have it.
"""

from __future__ import annotations

from ..spec.mixer import MixerSpec
from ..spec.model import EmbeddingSpec, HeadSpec, ModelSpec, NormSpec, ResidualSpec, StageSpec
from ..types import Preprocessing
from .published_model import PublishedModel, TableEntry, WeightSource

STEM = EmbeddingSpec(kernel=7, stride=4, padding=2)
DOWN = EmbeddingSpec(kernel=3, stride=2, padding=1)

GROUP_NORM = NormSpec(kind="group", eps=1e-5)
CHANNEL_NORM = NormSpec(kind="layer", eps=1e-5)

SMALL = (64, 128, 320, 512)
MEDIUM = (96, 192, 384, 768)

POOLING = MixerSpec(name="pooling")
IDENTITY = MixerSpec(name="identity")
ATTENTION = MixerSpec(name="attention", args={"head_dim": 32, "qkv_bias": False, "proj_bias": True})
SPATIAL_FC = MixerSpec(name="spatial_fc")


def poolformer_frame(
    depths: tuple[int, ...],
    widths: tuple[int, ...],
    *,
    layer_scale: float = 1e-5,
    mixers: tuple[MixerSpec, ...] = (POOLING,) * 4,
    norm: NormSpec = GROUP_NORM,
    position_at: int | None = None,
) -> ModelSpec:
    """The first paper's frame: overlapping convolutions without norms, pre-norm blocks with LayerScale."""
    stages = tuple(
        StageSpec(
            depth=depth,
            width=width,
            embedding=DOWN if i else STEM,
            mixer=mixer,
            norm=norm,
            residual=ResidualSpec(layer_scale=layer_scale),
            position=i == position_at,
        )
        for i, (depth, width, mixer) in enumerate(zip(depths, widths, mixers, strict=True))
    )
    return ModelSpec(stages=stages, head=HeadSpec(norm=norm, norm_position="before"), init="poolformer")


def _release(name: str) -> WeightSource:
    return WeightSource(
        url=f"https://github.com/sail-sg/poolformer/releases/download/v1.0/{name}.pth.tar",
        file=f"{name}.pth.tar",
    )


# size: parameters (10⁶) and MACs (10⁹) in print
_IN_PRINT = {"s12": (12, 1.8), "s24": (21, 3.4), "s36": (31, 5.0), "m36": (56, 8.8), "m48": (73, 11.6)}


def _published(size: str, top1: float) -> TableEntry:
    parameters, macs = _IN_PRINT[size]
    return TableEntry(parameters=parameters, macs=macs, top1=top1, source="2111.11418, table 2")


def _poolformer(size: str, spec: ModelSpec, parameters: int, macs: float, top1: float, crop: float) -> PublishedModel:
    name = f"poolformer_{size}"
    hubs = (
        WeightSource(repo=f"timm/{name}.sail_in1k"),
        WeightSource(repo=f"sail/{name}", file="pytorch_model.bin"),
    )
    return PublishedModel(
        name=name,
        family="PoolFormer",
        spec=spec,
        parameters=parameters,
        macs=macs,
        top1=top1,
        preprocessing=Preprocessing(crop=crop),
        weights=(*hubs, _release(name)),
        published=_published(size, top1),
    )


def _hybrid(name: str, spec: ModelSpec, parameters: int, macs: float, top1: float, crop: float) -> PublishedModel:
    return PublishedModel(
        name=name,
        family="MetaFormer (first paper)",
        spec=spec,
        parameters=parameters,
        macs=macs,
        top1=top1,
        preprocessing=Preprocessing(crop=crop),
        weights=(_release(name),),
    )


S12, S24, S36, M48 = (2, 2, 6, 2), (4, 4, 12, 4), (6, 6, 18, 6), (8, 8, 24, 8)

POOLFORMERS = (
    _poolformer("s12", poolformer_frame(S12, SMALL), 11_915_176, 1.822678528, 77.2, 0.9),
    _poolformer("s24", poolformer_frame(S24, SMALL), 21_388_968, 3.412906496, 80.3, 0.9),
    _poolformer("s36", poolformer_frame(S36, SMALL, layer_scale=1e-6), 30_862_760, 5.003134464, 81.4, 0.9),
    _poolformer("m36", poolformer_frame(S36, MEDIUM, layer_scale=1e-6), 56_172_520, 8.801876736, 82.1, 0.95),
    _poolformer("m48", poolformer_frame(M48, MEDIUM, layer_scale=1e-6), 73_473_448, 11.590708992, 82.5, 0.95),
)

PPPA = poolformer_frame(S12, SMALL, mixers=(POOLING, POOLING, POOLING, ATTENTION), norm=CHANNEL_NORM, position_at=3)
PPAA = poolformer_frame(S12, SMALL, mixers=(POOLING, POOLING, ATTENTION, ATTENTION), norm=CHANNEL_NORM, position_at=2)
PPPF = poolformer_frame(S12, SMALL, mixers=(POOLING, POOLING, POOLING, SPATIAL_FC))
PPFF = poolformer_frame(S12, SMALL, mixers=(POOLING, POOLING, SPATIAL_FC, SPATIAL_FC))

HYBRIDS = (
    _hybrid(
        "metaformer_id_s12", poolformer_frame(S12, SMALL, mixers=(IDENTITY,) * 4), 11_915_176, 1.822678528, 74.3, 0.9
    ),
    _hybrid("metaformer_pppa_s12_224", PPPA, 14_038_440, 1.9199, 78.3, 0.95),
    _hybrid("metaformer_ppaa_s12_224", PPAA, 16_535_592, 2.5492, 81.0, 0.95),
    _hybrid("metaformer_pppf_s12_224", PPPF, 11_919_978, 1.8251, 77.5, 0.9),
    _hybrid("metaformer_ppff_s12_224", PPFF, 12_150_474, 1.8989, 77.9, 0.95),
)

MODELS = POOLFORMERS + HYBRIDS
