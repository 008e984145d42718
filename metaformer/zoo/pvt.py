"""PVT (version 1): a pyramid whose attention looks at shrunk keys and values.

Source: "Pyramid Vision Transformer" (arXiv 2102.12122) and the authors' code. Two eps live side by side: 1e-6 in the
blocks and the final norm, 1e-5 beside the embeddings and inside the reductions. The class token enters at stage 4.
"""

from __future__ import annotations

from ..spec.mixer import MixerSpec
from ..spec.model import EmbeddingSpec, HeadSpec, MLPSpec, ModelSpec, NormSpec, StageSpec
from .published_model import PublishedModel, TableEntry, WeightSource

WIDTHS = (64, 128, 320, 512)
RATIOS = (8, 4, 2, 1)
MLP_RATIOS = (8.0, 8.0, 4.0, 4.0)
CHANNEL_NORM = NormSpec(kind="layer", eps=1e-6)
EMBEDDING_NORM = NormSpec(kind="layer", eps=1e-5)


def reduced(ratio: int) -> MixerSpec:
    """Spatial-reduction attention with heads of 64 channels."""
    return MixerSpec(name="reduced_attention", args={"ratio": ratio, "head_dim": 64})


def pvt_frame(depths: tuple[int, ...]) -> ModelSpec:
    """PVT's frame."""
    stages = tuple(
        StageSpec(
            depth=depth,
            width=width,
            embedding=EmbeddingSpec(kernel=side, stride=side, padding=0, norm=EMBEDDING_NORM),
            mixer=reduced(ratio),
            mlp=MLPSpec(ratio=mlp_ratio),
            norm=CHANNEL_NORM,
            position=True,
            position_resampling="bilinear",
            prefix_tokens=1 if side == 2 and ratio == 1 else 0,
        )
        for depth, width, side, ratio, mlp_ratio in zip(depths, WIDTHS, (4, 2, 2, 2), RATIOS, MLP_RATIOS, strict=True)
    )
    return ModelSpec(stages=stages, head=HeadSpec(readout="token", norm=CHANNEL_NORM), init="vit")


# size: depths, parameters, MACs (10⁹), parameters (10⁶), MACs and top-1 in print, why they differ
_SIZES = {
    "tiny": ((2, 2, 2, 2), 13_229_288, 1.944, 13, 1.9, 75.1, ""),
    "small": ((3, 4, 6, 3), 24_485_864, 3.834, 25, 3.8, 79.8, "24.49 rounds to 24"),
    "medium": ((3, 4, 18, 3), 44_208_104, 6.686, 44, 6.7, 81.2, ""),
    "large": ((3, 8, 27, 3), 61_369_320, 9.851, 61, 9.8, 81.7, "9.85 is truncated, not rounded"),
}


def _row(size: str) -> PublishedModel:
    depths, parameters, macs, printed_parameters, printed_macs, top1, note = _SIZES[size]
    file = f"pvt_{size}.pth"
    return PublishedModel(
        name=f"pvt_{size}",
        family="PVT",
        spec=pvt_frame(depths),
        parameters=parameters,
        macs=macs,
        top1=top1,
        weights=(WeightSource(url=f"https://github.com/whai362/PVT/releases/download/v2/{file}", file=file),),
        paper="2102.12122",
        published=TableEntry(
            parameters=printed_parameters, macs=printed_macs, top1=top1, source="2111.11418, table 2", note=note
        ),
    )


MODELS = tuple(_row(size) for size in _SIZES)
