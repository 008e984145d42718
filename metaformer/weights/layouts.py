"""The layouts of published checkpoints: whose names, which shapes, and how each is recognized.

In: the names of a published state dict. Out: its layout, whose table leads from its names to ours and back. A row of a
table is a pair of templates, theirs and ours (``name_table.py`` has their form):

- ``{i}`` stands for the stage, ``{j}`` for the block, ``{part}`` for a layer of a mixer; ``{i+1}`` is the stage plus
  one, for layouts that count from 1 or keep a downsampling with the stage before it;
- ``*`` is the last word (weight, bias, scale);
- ``#0/2`` behind our name: theirs is the first half of our tensor, and another row has ``#1/2``
  (``split_tensors.py``).

The first row that matches decides, in both directions.

Layouts: sail-sg/poolformer ("official-v1", hybrids included), sail-sg/metaformer ("official-v2"), the authors' of the
other systems ("official-pvt", "official-resmlp", "official-swin", "official-swin-mixer"), timm, transformers
("huggingface"), mmpretrain, Google's files of ViT and MLP-Mixer ("jax"), and our own ("metaformer"). timm and
transformers have a table for each kind of model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import WeightsError
from .name_table import Pairs
from .tables_metaformer import MMPRETRAIN, TIMM_LINEAR, TIMM_MLP, TRANSFORMERS, V1, V2_LINEAR, V2_MLP
from .tables_systems import (
    JAX_MIXER,
    JAX_VIT,
    PVT,
    RESMLP,
    SWIN,
    SWIN_MIXER,
    TIMM_DISTILLED,
    TIMM_GMLP,
    TIMM_MIXER,
    TIMM_RESMLP,
    TIMM_SWIN,
    TIMM_VIT,
    TRANSFORMERS_DISTILLED,
    TRANSFORMERS_PVT,
    TRANSFORMERS_SWIN,
    TRANSFORMERS_VIT,
)

FINAL_NORM = "head.final_norm."
"""Where the tables put the final norm; a model has it as one of the two below, before or after the readout."""
FINAL_NORM_PLACES = ("head.pre_norm.", "head.norm.")
OURS: Pairs = tuple((f"{place}*", f"{FINAL_NORM}*") for place in FINAL_NORM_PLACES)

UnitAxes = tuple[tuple[str, tuple[int, ...]], ...]
"""Which of our tensors, by regular expressions, have further axes of size 1 there, and at which places."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way of naming and shaping."""

    name: str
    """As it stands in reports and is passed to ``to_layout``."""
    mark: str
    """A regular expression that only names of this layout match, layouts that are tried before it left aside."""
    pairs: Pairs
    """Their templates and ours."""
    linear_pairs: Pairs | None = None
    """The same for a model whose head is one linear layer, where that differs."""
    unit_axes: UnitAxes = ()
    """Kernels of 1 × 1 that are matrices here, and vectors that are (1, 1, C) there."""
    unit_axes_beside_attention: bool = True
    """Whether that also holds in stages of attention."""
    position_maps: bool = False
    """Whether position tables are (1, C, H, W) there instead of (1, P + N, C)."""
    running_number: bool = False
    """Whether stages, downsamplings and position tables share one running number."""


MLP_KERNELS: UnitAxes = ((r"\.mlp\.fc[12]\.weight$", (2, 3)),)
MAP_KERNELS: UnitAxes = ((r"\.(mlp\.fc[12]|mixer\.pwconv[12])\.weight$", (2, 3)),)
HEAD_KERNELS: UnitAxes = ((r"\.mixer\.fc\.weight$", (2,)),)
AFFINES: UnitAxes = ((r"(\.norm[12]|^head\.(pre_)?norm)\.(weight|bias)$", (0, 1)),)

JAX = "jax"
"""The layout of Google's files, which is read but not written."""

DERIVED = re.compile(r"(.+\.)?(relative_position_index|attn_mask)")
"""Buffers in Swin's files that follow from the window and the grid, so that they are not loaded."""

LAYOUTS = (
    Layout(name="metaformer", mark=r"backbone\.stages\.\d+\.", pairs=OURS),
    Layout(name="huggingface", mark=r"pvt\.encoder\.block\.0\.0\.attention\.", pairs=TRANSFORMERS_PVT),
    Layout(name="huggingface", mark=r"vit\.(encoder\.layer|layers)\.0\.attention\.", pairs=TRANSFORMERS_VIT),
    Layout(name="huggingface", mark=r"deit\.(encoder\.layer|layers)\.0\.attention\.", pairs=TRANSFORMERS_DISTILLED),
    Layout(name="huggingface", mark=r"swin\.encoder\.layers\.0\.blocks\.0\.attention\.", pairs=TRANSFORMERS_SWIN),
    Layout(name="huggingface", mark=r"poolformer\.encoder\.", pairs=TRANSFORMERS, unit_axes=MLP_KERNELS),
    Layout(name=JAX, mark=r"Transformer/encoderblock_0/", pairs=JAX_VIT),
    Layout(name=JAX, mark=r"MixerBlock_0/", pairs=JAX_MIXER),
    Layout(name="official-pvt", mark=r"block1\.0\.attn\.kv\.", pairs=PVT),
    Layout(
        name="official-swin-mixer",
        mark=r"layers\.0\.blocks\.0\.spatial_mlp\.",
        pairs=SWIN_MIXER,
        unit_axes=HEAD_KERNELS,
    ),
    Layout(name="official-swin", mark=r"layers\.0\.downsample\.", pairs=SWIN),
    Layout(name="timm", mark=r"layers\.0\.blocks\.0\.attn\.qkv\.", pairs=TIMM_SWIN),
    Layout(name="timm", mark=r"dist_token$", pairs=TIMM_DISTILLED),
    Layout(name="timm", mark=r"blocks\.0\.attn\.qkv\.", pairs=TIMM_VIT),
    Layout(name="timm", mark=r"blocks\.0\.mlp_tokens\.", pairs=TIMM_MIXER),
    Layout(name="official-resmlp", mark=r"blocks\.0\.gamma_1$", pairs=RESMLP),
    Layout(name="timm", mark=r"blocks\.0\.linear_tokens\.", pairs=TIMM_RESMLP, unit_axes=AFFINES),
    Layout(name="timm", mark=r"blocks\.0\.mlp_channels\.gate\.", pairs=TIMM_GMLP),
    Layout(
        name="mmpretrain",
        mark=r"backbone\.patch_embed\.",
        pairs=MMPRETRAIN,
        unit_axes=MLP_KERNELS,
        position_maps=True,
        running_number=True,
    ),
    Layout(
        name="official-v1",
        mark=r"network\.\d+\.\d+\.",
        pairs=V1,
        unit_axes=MLP_KERNELS,
        position_maps=True,
        running_number=True,
    ),
    Layout(name="official-v2", mark=r"downsample_layers\.\d+\.conv\.weight", pairs=V2_MLP, linear_pairs=V2_LINEAR),
    Layout(
        name="timm",
        mark=r"stem\.conv\.weight|stages\.\d+\.blocks\.\d+\.",
        pairs=TIMM_MLP,
        linear_pairs=TIMM_LINEAR,
        unit_axes=MAP_KERNELS,  # its stages of attention work on tokens, all others on maps
        unit_axes_beside_attention=False,
    ),
)
"""In the order in which they are tried. The authors' come before timm's, and those of one kind of model before those
that take any mixer: the later marks match names of the earlier layouts too."""

NAMES = tuple(dict.fromkeys(layout.name for layout in LAYOUTS if layout.name != JAX))
"""The layouts that ``to_layout`` writes."""


def recognize(names: Iterable[str]) -> Layout:
    """The layout that names belong to.

    Raises:
        WeightsError: none of those known; the message shows the first names.
    """
    known = list(names)
    for layout in LAYOUTS:
        if any(re.match(layout.mark, name) for name in known):
            return layout
    raise WeightsError(
        f"the names in this checkpoint belong to no known layout of a MetaFormer ({', '.join(known[:3]) or 'none'}, "
        f"...). Expected the names of one of: {', '.join([*NAMES, JAX])}"
    )
