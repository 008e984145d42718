"""The names of the two MetaFormer papers' checkpoints beside ours: their authors', timm's, transformers', mmpretrain's.

``name_table.py`` says how the tables are read.
"""

from __future__ import annotations

from .name_table import Pairs, table

# stage, down and position stand for the one running number that the original gives to all three (see rename.py)
V1_BACKBONE: Pairs = table("""
    patch_embed.proj.* = backbone.stages.0.embed.conv.*
    network.down{i}.proj.* = backbone.stages.{i}.embed.conv.*
    network.position{i}.pos_embed = backbone.stages.{i}.position.table
    network.stage{i}.{j}. = backbone.stages.{i}.blocks.{j}.
        norm1.* norm2.* mlp.fc1.* mlp.fc2.* mlp.act.*
        token_mixer.act1.* = mixer.act.*
        token_mixer.random_matrix = mixer.matrix
        token_mixer.{part}.* = mixer.{part}.*
        layer_scale_1 = branch1.layer_scale.scale
        layer_scale_2 = branch2.layer_scale.scale
""")
V1: Pairs = (*V1_BACKBONE, ("norm.*", "head.final_norm.*"), ("head.*", "head.fc.*"))
MMPRETRAIN: Pairs = (
    *((f"backbone.{theirs}", ours) for theirs, ours in V1_BACKBONE),
    ("backbone.norm6.*", "head.final_norm.*"),
    ("head.fc.*", "head.fc.*"),
)

_V2_BLOCK = """
        norm1.* norm2.* mlp.fc1.* mlp.fc2.* mlp.act.*
        token_mixer.act1.* = mixer.act.*
        token_mixer.random_matrix = mixer.matrix
        token_mixer.{part}.* = mixer.{part}.*
        layer_scale1.scale = branch1.layer_scale.scale
        layer_scale2.scale = branch2.layer_scale.scale
        res_scale1.scale = skip1.scale
        res_scale2.scale = skip2.scale
"""
V2_LINEAR: Pairs = table(f"""
    downsample_layers.{{i}}. = backbone.stages.{{i}}.embed.
        conv.* pre_norm.* post_norm.*
    stages.{{i}}.{{j}}. = backbone.stages.{{i}}.blocks.{{j}}.{_V2_BLOCK}
    norm.* = head.final_norm.*
    head.* = head.fc.*
""")
TIMM_LINEAR: Pairs = table(f"""
    stem.conv.* = backbone.stages.0.embed.conv.*
    stem.norm.* = backbone.stages.0.embed.post_norm.*
    stages.{{i}}.downsample.conv.* = backbone.stages.{{i}}.embed.conv.*
    stages.{{i}}.downsample.norm.* = backbone.stages.{{i}}.embed.pre_norm.*
    stages.{{i}}.blocks.{{j}}. = backbone.stages.{{i}}.blocks.{{j}}.{_V2_BLOCK}
    head.norm.* = head.final_norm.*
    head.fc.*
""")
_MLP_HEAD = (("fc1.*", "head.hidden.fc1.*"), ("norm.*", "head.hidden.norm.*"), ("fc2.*", "head.fc.*"))
V2_MLP: Pairs = (*((f"head.{theirs}", ours) for theirs, ours in _MLP_HEAD), *V2_LINEAR)
TIMM_MLP: Pairs = (*((f"head.fc.{theirs}", ours) for theirs, ours in _MLP_HEAD), *TIMM_LINEAR)

TRANSFORMERS: Pairs = table("""
    poolformer.encoder.patch_embeddings.{i}.projection.* = backbone.stages.{i}.embed.conv.*
    poolformer.encoder.block.{i}.{j}. = backbone.stages.{i}.blocks.{j}.
        before_norm.* = norm1.*
        after_norm.* = norm2.*
        output.conv1.* = mlp.fc1.*
        output.conv2.* = mlp.fc2.*
        layer_scale_1 = branch1.layer_scale.scale
        layer_scale_2 = branch2.layer_scale.scale
    norm.* = head.final_norm.*
    classifier.* = head.fc.*
""")
