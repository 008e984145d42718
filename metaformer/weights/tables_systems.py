"""The names of other systems' checkpoints beside ours: ViT, DeiT, PVT, MLP-Mixer, ResMLP, gMLP, Swin, Swin-Mixer.

``name_table.py`` says how the tables are read. DeiT's authors use timm's model, so timm's tables are theirs as well.
"""

from __future__ import annotations

from .name_table import Pairs, table

# --- ViT and DeiT -------------------------------------------------------------------------------------------------

_TIMM_VIT = """
    pos_embed = backbone.stages.0.position.table
    patch_embed.proj.* = backbone.stages.0.embed.conv.*
    blocks.{j}. = backbone.stages.0.blocks.{j}.
        norm1.* norm2.* mlp.fc1.* mlp.fc2.*
        attn.qkv.* = mixer.qkv.*
        attn.proj.* = mixer.proj.*
    norm.* = head.final_norm.*
"""
TIMM_VIT: Pairs = table(f"""
    cls_token = backbone.stages.0.prefix.tokens
    {_TIMM_VIT}
    head.* = head.fc.*
""")
TIMM_DISTILLED: Pairs = table(f"""
    cls_token = backbone.stages.0.prefix.tokens#0/2
    dist_token = backbone.stages.0.prefix.tokens#1/2
    {_TIMM_VIT}
    head.* = head.fc.layers.0.*
    head_dist.* = head.fc.layers.1.*
""")


def _attention(inner: str, ours: str) -> str:
    """Attention in transformers, whose version 5 renamed the parts of its models, but not of its files."""
    return f"""
        attention.{inner}.query.* = {ours}.qkv.*#0/3
        attention.{inner}.key.* = {ours}.qkv.*#1/3
        attention.{inner}.value.* = {ours}.qkv.*#2/3
        attention.q_proj.* = {ours}.qkv.*#0/3
        attention.k_proj.* = {ours}.qkv.*#1/3
        attention.v_proj.* = {ours}.qkv.*#2/3
        attention.output.dense.* = {ours}.proj.*
        attention.o_proj.* = {ours}.proj.*
"""


_NORMS_AND_MLP = """
        layernorm_before.* = norm1.*
        layernorm_after.* = norm2.*
        intermediate.dense.* = mlp.fc1.*
        output.dense.* = mlp.fc2.*
        mlp.fc1.* mlp.fc2.*
"""
_TRANSFORMERS_BLOCK = f"{_attention('attention', 'mixer')}{_NORMS_AND_MLP}"


def _transformers_vit(name: str) -> str:
    return f"""
    {name}.embeddings.position_embeddings = backbone.stages.0.position.table
    {name}.embeddings.patch_embeddings.projection.* = backbone.stages.0.embed.conv.*
    {name}.encoder.layer.{{j}}. = backbone.stages.0.blocks.{{j}}.{_TRANSFORMERS_BLOCK}
    {name}.layers.{{j}}. = backbone.stages.0.blocks.{{j}}.{_TRANSFORMERS_BLOCK}
    {name}.layernorm.* = head.final_norm.*
"""


TRANSFORMERS_VIT: Pairs = table(f"""
    vit.embeddings.cls_token = backbone.stages.0.prefix.tokens
    {_transformers_vit("vit")}
    classifier.* = head.fc.*
""")
TRANSFORMERS_DISTILLED: Pairs = table(f"""
    deit.embeddings.cls_token = backbone.stages.0.prefix.tokens#0/2
    deit.embeddings.distillation_token = backbone.stages.0.prefix.tokens#1/2
    {_transformers_vit("deit")}
    cls_classifier.* = head.fc.layers.0.*
    distillation_classifier.* = head.fc.layers.1.*
""")

# --- PVT ----------------------------------------------------------------------------------------------------------

PVT: Pairs = table("""
    cls_token = backbone.stages.3.prefix.tokens
    pos_embed{i+1} = backbone.stages.{i}.position.table
    patch_embed{i+1}.proj.* = backbone.stages.{i}.embed.conv.*
    patch_embed{i+1}.norm.* = backbone.stages.{i}.embed.post_norm.*
    block{i+1}.{j}. = backbone.stages.{i}.blocks.{j}.
        norm1.* norm2.* mlp.fc1.* mlp.fc2.*
        attn.q.* = mixer.q.*
        attn.kv.* = mixer.kv.*
        attn.proj.* = mixer.proj.*
        attn.sr.* = mixer.reduction.conv.*
        attn.norm.* = mixer.reduction.norm.*
    norm.* = head.final_norm.*
    head.* = head.fc.*
""")
TRANSFORMERS_PVT: Pairs = table("""
    pvt.encoder.patch_embeddings.3.cls_token = backbone.stages.3.prefix.tokens
    pvt.encoder.patch_embeddings.{i}. = backbone.stages.{i}.
        position_embeddings = position.table
        projection.* = embed.conv.*
        layer_norm.* = embed.post_norm.*
    pvt.encoder.block.{i}.{j}. = backbone.stages.{i}.blocks.{j}.
        layer_norm_1.* = norm1.*
        layer_norm_2.* = norm2.*
        attention.self.query.* = mixer.q.*
        attention.self.key.* = mixer.kv.*#0/2
        attention.self.value.* = mixer.kv.*#1/2
        attention.self.sequence_reduction.* = mixer.reduction.conv.*
        attention.self.layer_norm.* = mixer.reduction.norm.*
        attention.output.dense.* = mixer.proj.*
        mlp.dense1.* = mlp.fc1.*
        mlp.dense2.* = mlp.fc2.*
    pvt.encoder.layer_norm.* = head.final_norm.*
    classifier.* = head.fc.*
""")

# --- MLP-Mixer, ResMLP, gMLP --------------------------------------------------------------------------------------

TIMM_MIXER: Pairs = table("""
    stem.proj.* = backbone.stages.0.embed.conv.*
    blocks.{j}. = backbone.stages.0.blocks.{j}.
        norm1.* norm2.*
        mlp_tokens.fc1.* = mixer.fc1.*
        mlp_tokens.fc2.* = mixer.fc2.*
        mlp_channels.fc1.* = mlp.fc1.*
        mlp_channels.fc2.* = mlp.fc2.*
    norm.* = head.final_norm.*
    head.* = head.fc.*
""")
_AFFINES = """
        norm1.alpha = norm1.weight
        norm1.beta = norm1.bias
        norm2.alpha = norm2.weight
        norm2.beta = norm2.bias
"""
_AFFINE_AND_HEAD = """
    norm.alpha = head.final_norm.weight
    norm.beta = head.final_norm.bias
    head.* = head.fc.*
"""
TIMM_RESMLP: Pairs = table(f"""
    stem.proj.* = backbone.stages.0.embed.conv.*
    blocks.{{j}}. = backbone.stages.0.blocks.{{j}}.{_AFFINES}
        linear_tokens.* = mixer.fc.*
        ls1 = branch1.layer_scale.scale
        ls2 = branch2.layer_scale.scale
        mlp_channels.fc1.* = mlp.fc1.*
        mlp_channels.fc2.* = mlp.fc2.*
    {_AFFINE_AND_HEAD}
""")
RESMLP: Pairs = table(f"""
    patch_embed.proj.* = backbone.stages.0.embed.conv.*
    blocks.{{j}}. = backbone.stages.0.blocks.{{j}}.{_AFFINES}
        attn.* = mixer.fc.*
        gamma_1 = branch1.layer_scale.scale
        gamma_2 = branch2.layer_scale.scale
        mlp.fc1.* mlp.fc2.*
    {_AFFINE_AND_HEAD}
""")
TIMM_GMLP: Pairs = table("""
    stem.proj.* = backbone.stages.0.embed.conv.*
    blocks.{j}. = backbone.stages.0.blocks.{j}.
        norm.* = norm1.*
        mlp_channels.gate.norm.* = mixer.norm.*
        mlp_channels.gate.proj.* = mixer.fc.*
        mlp_channels.fc1.* = mixer.fc1.*
        mlp_channels.fc2.* = mixer.fc2.*
    norm.* = head.final_norm.*
    head.* = head.fc.*
""")

# --- Swin and Swin-Mixer ------------------------------------------------------------------------------------------

_PATCHES = """
    patch_embed.proj.* = backbone.stages.0.embed.conv.*
    patch_embed.norm.* = backbone.stages.0.embed.post_norm.*
"""
_MERGE_AT_END = """
    layers.{i}.downsample. = backbone.stages.{i+1}.embed.
        norm.* reduction.*
"""
_MERGE_AT_START = """
    layers.{i}.downsample. = backbone.stages.{i}.embed.
        norm.* reduction.*
"""
_SWIN_BLOCKS = """
    layers.{i}.blocks.{j}. = backbone.stages.{i}.blocks.{j}.
        norm1.* norm2.* mlp.fc1.* mlp.fc2.*
        attn.qkv.* = mixer.mixer.qkv.*
        attn.proj.* = mixer.mixer.proj.*
        attn.relative_position_bias_table = mixer.mixer.relative.table
    norm.* = head.final_norm.*
"""
SWIN: Pairs = table(f"{_PATCHES}{_MERGE_AT_END}{_SWIN_BLOCKS}    head.* = head.fc.*")
TIMM_SWIN: Pairs = table(f"{_PATCHES}{_MERGE_AT_START}{_SWIN_BLOCKS}    head.fc.*")
SWIN_MIXER: Pairs = table(f"""{_PATCHES}{_MERGE_AT_END}
    layers.{{i}}.blocks.{{j}}. = backbone.stages.{{i}}.blocks.{{j}}.
        norm1.* norm2.* mlp.fc1.* mlp.fc2.*
        spatial_mlp.* = mixer.mixer.fc.*
    norm.* = head.final_norm.*
    head.* = head.fc.*
""")
TRANSFORMERS_SWIN: Pairs = table(f"""
    swin.embeddings.patch_embeddings.projection.* = backbone.stages.0.embed.conv.*
    swin.embeddings.norm.* = backbone.stages.0.embed.post_norm.*
    swin.encoder.layers.{{i}}.downsample. = backbone.stages.{{i+1}}.embed.
        norm.* reduction.*
    swin.encoder.layers.{{i}}.blocks.{{j}}. = backbone.stages.{{i}}.blocks.{{j}}.{_attention("self", "mixer.mixer")}
        attention.self.relative_position_bias_table = mixer.mixer.relative.table
        attention.relative_position_bias.relative_position_bias_table = mixer.mixer.relative.table{_NORMS_AND_MLP}
    swin.layernorm.* = head.final_norm.*
    classifier.* = head.fc.*
""")

# --- Google's JAX files (``jax_arrays.py`` turns their kernels into weights) ----------------------------------------

JAX_VIT: Pairs = table("""
    cls = backbone.stages.0.prefix.tokens
    Transformer/posembed_input/pos_embedding = backbone.stages.0.position.table
    embedding/* = backbone.stages.0.embed.conv.*
    Transformer/encoderblock_{j}/ = backbone.stages.0.blocks.{j}.
        LayerNorm_0/* = norm1.*
        MultiHeadDotProductAttention_1/query/* = mixer.qkv.*#0/3
        MultiHeadDotProductAttention_1/key/* = mixer.qkv.*#1/3
        MultiHeadDotProductAttention_1/value/* = mixer.qkv.*#2/3
        MultiHeadDotProductAttention_1/out/* = mixer.proj.*
        LayerNorm_2/* = norm2.*
        MlpBlock_3/Dense_0/* = mlp.fc1.*
        MlpBlock_3/Dense_1/* = mlp.fc2.*
    Transformer/encoder_norm/* = head.final_norm.*
    head/* = head.fc.*
""")
JAX_MIXER: Pairs = table("""
    stem/* = backbone.stages.0.embed.conv.*
    MixerBlock_{j}/ = backbone.stages.0.blocks.{j}.
        LayerNorm_0/* = norm1.*
        LayerNorm_1/* = norm2.*
        token_mixing/Dense_0/* = mixer.fc1.*
        token_mixing/Dense_1/* = mixer.fc2.*
        channel_mixing/Dense_0/* = mlp.fc1.*
        channel_mixing/Dense_1/* = mlp.fc2.*
    pre_head_layer_norm/* = head.final_norm.*
    head/* = head.fc.*
""")
