"""The names of the two MetaFormer papers' checkpoints beside ours: their authors', timm's, transformers', mmpretrain's.

Rows of templates, theirs and ours; ``layouts.py`` says how they are read.
"""

from __future__ import annotations

Pairs = tuple[tuple[str, str], ...]


def inside(theirs: str, ours: str, pairs: Pairs) -> Pairs:
    """The pairs behind a prefix on either side."""
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

# stage, down and position stand for the one running number that the original gives to all three (see rename.py)
V1_BACKBONE: Pairs = (
    ("patch_embed.proj.*", "backbone.stages.0.embed.conv.*"),
    ("network.down{i}.proj.*", "backbone.stages.{i}.embed.conv.*"),
    ("network.position{i}.pos_embed", "backbone.stages.{i}.position.table"),
    *inside("network.stage{i}.{j}", BLOCK, V1_BLOCK),
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
    *inside("stages.{i}.{j}", BLOCK, V2_BLOCK),
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
    *inside("stages.{i}.blocks.{j}", BLOCK, V2_BLOCK),
    ("head.norm.*", "head.final_norm.*"),
    ("head.fc.*", "head.fc.*"),
)
TIMM_MLP: Pairs = (*((f"head.fc.{left}", right) for left, right in MLP_HEAD), *TIMM_LINEAR)

TRANSFORMERS: Pairs = (
    ("poolformer.encoder.patch_embeddings.{i}.projection.*", "backbone.stages.{i}.embed.conv.*"),
    *inside("poolformer.encoder.block.{i}.{j}", BLOCK, TRANSFORMERS_BLOCK),
    ("norm.*", "head.final_norm.*"),
    ("classifier.*", "head.fc.*"),
)
