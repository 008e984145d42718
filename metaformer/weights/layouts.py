"""The names that published checkpoints give to the same tensors, as tables from theirs to ours.

In: the names of a state dict as somebody published it. Out: our names for them, and back again. A row of a table is
a pair of templates: ``{i}`` stands for the stage, ``{j}`` for the block, ``{part}`` for a layer of a mixer and ``*``
for the last word (weight, bias, scale). The first row that matches decides, in both directions.

Layouts: sail-sg/poolformer ("official-v1", hybrids included), sail-sg/metaformer ("official-v2"), timm, transformers
("huggingface"), mmpretrain, and our own ("metaformer").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import WeightsError

Pairs = tuple[tuple[str, str], ...]

FINAL_NORM = "head.final_norm."
"""Where the tables put the final norm; a model has it as one of the two below, before or after the readout."""
FINAL_NORM_PLACES = ("head.pre_norm.", "head.norm.")


def _inside(theirs: str, ours: str, pairs: Pairs) -> Pairs:
    return tuple((f"{theirs}.{left}", f"{ours}.{right}") for left, right in pairs)


MIXER: Pairs = (
    ("token_mixer.act1.*", "mixer.act.*"),
    ("token_mixer.random_matrix", "mixer.matrix"),
    ("token_mixer.{part}.*", "mixer.{part}.*"),
)
NORMS_AND_MLP: Pairs = (
    ("norm1.*", "norm1.*"),
    ("norm2.*", "norm2.*"),
    ("mlp.fc1.*", "mlp.fc1.*"),
    ("mlp.fc2.*", "mlp.fc2.*"),
    ("mlp.act.*", "mlp.act.*"),
)
V1_BLOCK: Pairs = (
    *NORMS_AND_MLP,
    *MIXER,
    ("layer_scale_1", "branch1.layer_scale.scale"),
    ("layer_scale_2", "branch2.layer_scale.scale"),
)
V2_BLOCK: Pairs = (
    *NORMS_AND_MLP,
    *MIXER,
    ("layer_scale1.scale", "branch1.layer_scale.scale"),
    ("layer_scale2.scale", "branch2.layer_scale.scale"),
    ("res_scale1.scale", "skip1.scale"),
    ("res_scale2.scale", "skip2.scale"),
)
TRANSFORMERS_BLOCK: Pairs = (
    ("before_norm.*", "norm1.*"),
    ("after_norm.*", "norm2.*"),
    ("output.conv1.*", "mlp.fc1.*"),
    ("output.conv2.*", "mlp.fc2.*"),
    ("layer_scale_1", "branch1.layer_scale.scale"),
    ("layer_scale_2", "branch2.layer_scale.scale"),
)
BLOCK = "backbone.stages.{i}.blocks.{j}"

# stage, down and position stand for the one running number that the original gives to all three (see naming.py)
V1_BACKBONE: Pairs = (
    ("patch_embed.proj.*", "backbone.stages.0.embed.conv.*"),
    ("network.down{i}.proj.*", "backbone.stages.{i}.embed.conv.*"),
    ("network.position{i}.pos_embed", "backbone.stages.{i}.position.table"),
    *_inside("network.stage{i}.{j}", BLOCK, V1_BLOCK),
)
V1: Pairs = (*V1_BACKBONE, ("norm.*", "head.final_norm.*"), ("head.*", "head.fc.*"))

MMPRETRAIN: Pairs = (
    *((f"backbone.{left}", right) for left, right in V1_BACKBONE),
    ("backbone.norm6.*", "head.final_norm.*"),
    ("head.fc.*", "head.fc.*"),
)
V2_LINEAR: Pairs = (
    ("downsample_layers.{i}.conv.*", "backbone.stages.{i}.embed.conv.*"),
    ("downsample_layers.{i}.pre_norm.*", "backbone.stages.{i}.embed.pre_norm.*"),
    ("downsample_layers.{i}.post_norm.*", "backbone.stages.{i}.embed.post_norm.*"),
    *_inside("stages.{i}.{j}", BLOCK, V2_BLOCK),
    ("norm.*", "head.final_norm.*"),
    ("head.*", "head.fc.*"),
)
MLP_HEAD: Pairs = (
    ("fc1.*", "head.hidden.fc1.*"),
    ("norm.*", "head.hidden.norm.*"),
    ("fc2.*", "head.fc.*"),
)
V2_MLP: Pairs = (*((f"head.{left}", right) for left, right in MLP_HEAD), *V2_LINEAR)

TIMM_LINEAR: Pairs = (
    ("stem.conv.*", "backbone.stages.0.embed.conv.*"),
    ("stem.norm.*", "backbone.stages.0.embed.post_norm.*"),
    ("stages.{i}.downsample.conv.*", "backbone.stages.{i}.embed.conv.*"),
    ("stages.{i}.downsample.norm.*", "backbone.stages.{i}.embed.pre_norm.*"),
    *_inside("stages.{i}.blocks.{j}", BLOCK, V2_BLOCK),
    ("head.norm.*", "head.final_norm.*"),
    ("head.fc.*", "head.fc.*"),
)
TIMM_MLP: Pairs = (*((f"head.fc.{left}", right) for left, right in MLP_HEAD), *TIMM_LINEAR)

TRANSFORMERS: Pairs = (
    ("poolformer.encoder.patch_embeddings.{i}.projection.*", "backbone.stages.{i}.embed.conv.*"),
    *_inside("poolformer.encoder.block.{i}.{j}", BLOCK, TRANSFORMERS_BLOCK),
    ("norm.*", "head.final_norm.*"),
    ("classifier.*", "head.fc.*"),
)
OURS: Pairs = tuple((f"{place}*", f"{FINAL_NORM}*") for place in FINAL_NORM_PLACES)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way of naming, and which of our matrices it stores as 1 × 1 kernels."""

    name: str
    """What reports call it."""
    mark: str
    """A regular expression that only names of this layout match."""
    pairs: Pairs
    """Their templates and ours."""
    linear_pairs: Pairs | None = None
    """The same for a model whose head is one linear layer, where that differs."""
    kernels: str | None = None
    """Which of our names are (out, in, 1, 1) there instead of (out, in), as a regular expression."""
    kernels_beside_attention: bool = True
    """Whether that also holds in stages of attention."""
    running_number: bool = False
    """Whether stages, downsamplings and position tables share one running number."""


MLP_KERNELS = r"\.mlp\.fc[12]\.weight$"
MAP_KERNELS = r"\.(mlp\.fc[12]|mixer\.pwconv[12])\.weight$"

LAYOUTS = (
    Layout(name="metaformer", mark=r"backbone\.stages\.\d+\.", pairs=OURS),
    Layout(name="huggingface", mark=r"poolformer\.encoder\.", pairs=TRANSFORMERS, kernels=MLP_KERNELS),
    Layout(
        name="mmpretrain", mark=r"backbone\.patch_embed\.", pairs=MMPRETRAIN, kernels=MLP_KERNELS, running_number=True
    ),
    Layout(name="official-v1", mark=r"network\.\d+\.\d+\.", pairs=V1, kernels=MLP_KERNELS, running_number=True),
    Layout(name="official-v2", mark=r"downsample_layers\.\d+\.conv\.weight", pairs=V2_MLP, linear_pairs=V2_LINEAR),
    Layout(
        name="timm",
        mark=r"stem\.conv\.weight|stages\.\d+\.blocks\.\d+\.",
        pairs=TIMM_MLP,
        linear_pairs=TIMM_LINEAR,
        kernels=MAP_KERNELS,
        kernels_beside_attention=False,
    ),
)
"""In the order in which they are tried."""


def recognise(names: Iterable[str]) -> Layout:
    """The layout that names belong to.

    Raises:
        WeightsError: none of those known; the message shows the first names.
    """
    known = list(names)
    for layout in LAYOUTS:
        if any(re.match(layout.mark, name) for name in known):
            return layout
    shown = ", ".join(known[:3]) or "none at all"
    raise WeightsError(
        f"the names in this checkpoint belong to no MetaFormer layout known here ({shown}, ...). Expected the "
        f"names of one of: {', '.join(layout.name for layout in LAYOUTS)}"
    )
