"""Swin and Swin-Mixer: one pyramid, windows around attention or around a matrix a head.

Source: "Swin Transformer" (arXiv 2103.14030; table 10 of its appendix for Swin-Mixer) and the authors' code, where
Swin-Mixer is called SwinMLP. The downsampling, which that code puts at a stage's end, stands at the next one's entry.
"""

from __future__ import annotations

from ..spec.mixer import MixerSpec
from ..spec.model import EmbeddingSpec, HeadSpec, ModelSpec, NormSpec, StageSpec
from ..types import Preprocessing
from .published_model import PublishedModel, TableEntry, WeightSource

CHANNEL_NORM = NormSpec(kind="layer", eps=1e-5)
STEM = EmbeddingSpec(kernel=4, stride=4, padding=0, norm=CHANNEL_NORM)
MERGE = EmbeddingSpec(kind="merge", norm=CHANNEL_NORM)


def swin_frame(depths: tuple[int, ...], width: int, mixers: tuple[MixerSpec, ...], side: int = 224) -> ModelSpec:
    """Swin's frame: the width doubles where the grid halves."""
    stages = tuple(
        StageSpec(depth=depth, width=width * 2**i, embedding=MERGE if i else STEM, mixer=mixer, norm=CHANNEL_NORM)
        for i, (depth, mixer) in enumerate(zip(depths, mixers, strict=True))
    )
    return ModelSpec(stages=stages, head=HeadSpec(norm=CHANNEL_NORM), img_size=(side, side), init="vit")


def in_windows(inner: MixerSpec, window: int, shift: str) -> MixerSpec:
    """A mixer inside windows that every second block shifts."""
    return MixerSpec(name="window", args={"mixer": inner.to_dict(), "window": window, "shift": shift})


# --- Swin ---------------------------------------------------------------------------------------------------------

ATTENTION = MixerSpec(name="attention", args={"head_dim": 32, "qkv_bias": True, "relative_position": True})

# size: depths, width, parameters, MACs (10⁹), top-1
_SWIN = {
    "tiny": ((2, 2, 6, 2), 96, 28_288_354, 4.509, 81.2),
    "small": ((2, 2, 18, 2), 96, 49_606_258, 8.769, 83.2),
    "base": ((2, 2, 18, 2), 128, 87_768_224, 15.468, 83.5),
}
_STORAGE = "https://github.com/SwinTransformer/storage/releases/download"


def _swin(size: str) -> PublishedModel:
    depths, width, parameters, macs, top1 = _SWIN[size]
    name = f"swin_{size}_patch4_window7_224"
    return PublishedModel(
        name=name,
        family="Swin",
        spec=swin_frame(depths, width, (in_windows(ATTENTION, 7, "roll"),) * 4),
        parameters=parameters,
        macs=macs,
        top1=top1,
        preprocessing=Preprocessing(crop=0.9),
        weights=(
            WeightSource(repo=f"timm/{name}.ms_in1k"),
            WeightSource(url=f"{_STORAGE}/v1.0.0/{name}.pth", file=f"{name}.pth"),
        ),
        paper="2103.14030",
    )


# --- Swin-Mixer ---------------------------------------------------------------------------------------------------

_B24_NOTE = "Called D24, but each head has 32 channels, not 24: 4, 8, 16, 32 heads for 128 to 1024 channels."
TABLE = "2111.11418, table 2"
# name: depths, width, heads of the first stage, window, side, parameters, MACs (10⁹), top-1, line in print, note
_SWIN_MIXER = {
    "swin_mlp_tiny_c24_patch4_window8_256": (
        (2, 2, 6, 2), 96, 4, 8, 256, 20_386_632, 4.051, 79.4,
        TableEntry(parameters=20, macs=4.0, top1=79.4, source=TABLE, note="4.051 rounds to 4.1"), "",
    ),
    "swin_mlp_tiny_c12_patch4_window8_256": (
        (2, 2, 6, 2), 96, 8, 8, 256, 21_152_072, 4.051, 79.6, None, "",
    ),
    "swin_mlp_tiny_c6_patch4_window8_256": (
        (2, 2, 6, 2), 96, 16, 8, 256, 22_682_952, 4.051, 79.7,
        TableEntry(parameters=23, macs=4.0, top1=79.7, source=TABLE, note="4.051 rounds to 4.1"), "",
    ),
    "swin_mlp_base_patch4_window7_224": (
        (2, 2, 18, 2), 128, 4, 7, 224, 60_659_416, 10.449, 81.3,
        TableEntry(parameters=61, macs=10.4, top1=81.3, source=TABLE), _B24_NOTE,
    ),
}  # fmt: skip


def _swin_mixer(name: str) -> PublishedModel:
    depths, width, heads, window, side, parameters, macs, top1, published, note = _SWIN_MIXER[name]
    inner = (MixerSpec(name="spatial_fc", args={"heads": heads * 2**i, "bias": True}) for i in range(4))
    return PublishedModel(
        name=name,
        family="Swin-Mixer",
        spec=swin_frame(depths, width, tuple(in_windows(mixer, window, "pad") for mixer in inner), side),
        parameters=parameters,
        macs=macs,
        top1=top1,
        preprocessing=Preprocessing(size=(side, side), crop=0.875),
        weights=(WeightSource(url=f"{_STORAGE}/v1.0.5/{name}.pth", file=f"{name}.pth"),),
        paper="2103.14030",
        note=note,
        published=published,
    )


MODELS = (*(_swin(size) for size in _SWIN), *(_swin_mixer(name) for name in _SWIN_MIXER))
