"""Models without attention on one grid: MLP-Mixer, ResMLP, gMLP, and Fourier mixing.

Sources: "MLP-Mixer" (arXiv 2105.01601), "ResMLP" (2105.03404), "Pay Attention to MLPs" (2105.08050), "FNet"
(2105.03824); sizes and initial values from the authors' codes, or from timm where there are none (gMLP).
"""

from __future__ import annotations

from ..spec.mixer import MixerSpec
from ..spec.model import HeadSpec, MLPSpec, ModelSpec, NormSpec, ResidualSpec, StageSpec
from ..types import Preprocessing
from .published_model import PublishedModel, TableEntry, WeightSource
from .vit import CHANNEL_NORM, HALF, patches

TABLE = "2111.11418, table 2"

# --- MLP-Mixer ----------------------------------------------------------------------------------------------------


def mixer_frame(depth: int, width: int) -> ModelSpec:
    """MLP-Mixer: a layer pair over the positions, half the channels wide inside, then one over the channels."""
    stage = StageSpec(
        depth=depth,
        width=width,
        embedding=patches(),
        mixer=MixerSpec(name="spatial_mlp", args={"hidden": width // 2}),
        norm=CHANNEL_NORM,
    )
    return ModelSpec(stages=(stage,), head=HeadSpec(norm=CHANNEL_NORM), init="xavier")


_TAG_NOTE = (
    "The tag goog_in21k_ft_in1k is wrong: the file holds the weights trained on ImageNet-1K alone (an author of the "
    "paper said so), which is what the comparison tables list."
)
# size: depth, width, parameters, MACs (10⁹), top-1, the line in print
_MIXER = {
    "s": (8, 512, 18_528_264, 3.786, None, None),
    "b": (12, 768, 59_880_472, 12.621, 76.4, TableEntry(
        parameters=59, macs=12.7, top1=76.4, source=TABLE, note="59.9 is truncated; 12.7 differs from the count",
    )),
    "l": (24, 1024, 208_196_168, 44.597, 72.1, None),
}  # fmt: skip


def _mixer(size: str) -> PublishedModel:
    depth, width, parameters, macs, top1, published = _MIXER[size]
    name = f"mixer_{size}16_224"
    released = size != "s"
    return PublishedModel(
        name=name,
        family="MLP-Mixer",
        spec=mixer_frame(depth, width),
        parameters=parameters,
        macs=macs,
        top1=top1,
        preprocessing=Preprocessing(crop=0.875, mean=HALF, std=HALF),
        weights=(WeightSource(repo=f"timm/{name}.goog_in21k_ft_in1k"),) if released else (),
        paper="2105.01601",
        nearest="" if released else "timm/mixer_b16_224.goog_in21k_ft_in1k",
        note=_TAG_NOTE + (" The accuracy is timm's evaluation." if size == "l" else "") if released else "",
        published=published,
    )


# --- ResMLP -------------------------------------------------------------------------------------------------------

AFFINE = NormSpec(kind="affine")


def resmlp_frame(depth: int, width: int, layer_scale: float, patch: int = 16) -> ModelSpec:
    """ResMLP: one layer over the positions; affine maps instead of norms; LayerScale; the same drop path everywhere."""
    stage = StageSpec(
        depth=depth,
        width=width,
        embedding=patches(patch),
        mixer=MixerSpec(name="spatial_fc", args={"bias": True}),
        norm=AFFINE,
        residual=ResidualSpec(layer_scale=layer_scale),
    )
    return ModelSpec(stages=(stage,), head=HeadSpec(norm=AFFINE), drop_path_rule="constant", init="vit")


_B24_NOTE = (
    "The paper's table lists B24 with patches of 16 × 16 (116M, 23.0G); every file released as B24 has 8 × 8 "
    "(129M, 100G). Both reach 81.0 without distillation, which hides the mix-up."
)
# name: frame, parameters, MACs (10⁹), top-1, stem of the authors' file, the line in print
_RESMLP = {
    "resmlp_12_224": (
        resmlp_frame(12, 384, 0.1), 15_350_872, 3.010, 76.6, "resmlp_12",
        TableEntry(parameters=15, macs=3.0, top1=76.6, source=TABLE),
    ),
    "resmlp_24_224": (
        resmlp_frame(24, 384, 1e-5), 30_020_680, 5.961, 79.4, "resmlp_24",
        TableEntry(parameters=30, macs=6.0, top1=79.4, source=TABLE),
    ),
    "resmlp_36_224": (resmlp_frame(36, 384, 1e-6), 44_690_488, 8.913, 79.8, "resmlp_36", None),
    "resmlp_big_24_224": (resmlp_frame(24, 768, 1e-6, patch=8), 129_138_280, 100.231, 81.0, "resmlpB_24", None),
    "resmlp_big_24_patch16_224": (
        resmlp_frame(24, 768, 1e-6), 115_736_776, 23.021, 81.0, "",
        TableEntry(parameters=116, macs=23.0, top1=81.0, source=TABLE),
    ),
}  # fmt: skip


def _resmlp(name: str) -> PublishedModel:
    spec, parameters, macs, top1, stem, published = _RESMLP[name]
    file = f"{stem}_no_dist.pth"
    sources = (
        WeightSource(repo=f"timm/{name}.fb_in1k"),
        WeightSource(url=f"https://dl.fbaipublicfiles.com/deit/{file}", file=file),
    )
    return PublishedModel(
        name=name,
        family="ResMLP",
        spec=spec,
        parameters=parameters,
        macs=macs,
        top1=top1,
        preprocessing=Preprocessing(crop=0.9),  # the authors'; timm evaluates at 0.875
        weights=sources if stem else (),
        paper="2105.03404",
        nearest="" if stem else "timm/resmlp_big_24_224.fb_in1k",
        note=_B24_NOTE if "big" in name else "The accuracy is timm's evaluation." if published is None else "",
        published=published,
    )


# --- gMLP ---------------------------------------------------------------------------------------------------------


def gmlp_frame(width: int) -> ModelSpec:
    """gMLP: thirty gating units and no channel MLP."""
    stage = StageSpec(
        depth=30, width=width, embedding=patches(), mixer=MixerSpec(name="gating_unit"), mlp=None, norm=CHANNEL_NORM
    )
    return ModelSpec(stages=(stage,), head=HeadSpec(norm=CHANNEL_NORM), init="xavier")


_GMLP_NOTE = "The authors published neither code nor weights; the only weights are timm's training of the S size."
# size: width, parameters, MACs (10⁹), top-1, the line in print
_GMLP = {
    "ti": (128, 5_867_328, 1.344, 72.3, None),
    "s": (256, 19_422_656, 4.422, 79.6, TableEntry(
        parameters=20, macs=4.5, top1=79.6, source=TABLE, note="19.42 rounds to 19; fvcore counts 4.42 G",
    )),
    "b": (512, 73_075_392, 15.781, 81.6, TableEntry(parameters=73, macs=15.8, top1=81.6, source=TABLE)),
}  # fmt: skip


def _gmlp(size: str) -> PublishedModel:
    width, parameters, macs, top1, published = _GMLP[size]
    name, released = f"gmlp_{size}16_224", size == "s"
    return PublishedModel(
        name=name,
        family="gMLP",
        spec=gmlp_frame(width),
        parameters=parameters,
        macs=macs,
        top1=top1,
        preprocessing=Preprocessing(crop=0.875, mean=HALF, std=HALF),
        weights=(WeightSource(repo=f"timm/{name}.ra3_in1k"),) if released else (),
        paper="2105.08050",
        nearest="" if released else "timm/gmlp_s16_224.ra3_in1k",
        note=_GMLP_NOTE,
        published=published,
    )


# --- Fourier mixing -----------------------------------------------------------------------------------------------

FNET_NORM = NormSpec(kind="layer", eps=1e-12)


def fnet_frame(depth: int, width: int) -> ModelSpec:
    """FNet's post-norm blocks on patches: positions as in DeiT, the mean of the tokens as in the MLP models."""
    stage = StageSpec(
        depth=depth,
        width=width,
        embedding=patches(),
        mixer=MixerSpec(name="fourier"),
        mlp=MLPSpec(activation="gelu_tanh"),
        norm=FNET_NORM,
        residual=ResidualSpec(norm_position="after"),
        position=True,
    )
    return ModelSpec(stages=(stage,), head=HeadSpec(norm=None), init="vit")


_FNET = PublishedModel(
    name="fnet_small_patch16_224",
    family="Fourier",
    spec=fnet_frame(12, 384),
    parameters=14_952_808,
    macs=2.842,
    top1=None,
    paper="2105.03824",
    note="FNet is a text model; this is its encoder in DeiT-S's size on patches. Nobody published ImageNet weights.",
)

MODELS = (
    *(_mixer(size) for size in _MIXER),
    *(_resmlp(name) for name in _RESMLP),
    *(_gmlp(size) for size in _GMLP),
    _FNET,
)
