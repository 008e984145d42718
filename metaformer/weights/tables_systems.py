"""The names of other systems' checkpoints beside ours: ViT, DeiT, PVT, MLP-Mixer, ResMLP, gMLP, Swin, Swin-Mixer.

Rows of templates, theirs and ours; ``layouts.py`` says how they are read. DeiT's authors use timm's model, so that
timm's tables are theirs as well. Google's JAX files have names of their own (``jax_arrays.py`` turns their kernels).
"""

from __future__ import annotations

from .tables_metaformer import Pairs, inside

ONLY_STAGE = "backbone.stages.0"
ONLY_BLOCK = f"{ONLY_STAGE}.blocks.{{j}}"
STAGE = "backbone.stages.{i}"
BLOCK = f"{STAGE}.blocks.{{j}}"

NORMS_AND_MLP: Pairs = tuple((f"{part}.*", f"{part}.*") for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"))
FINAL_NORM_AND_HEAD: Pairs = (("norm.*", "head.final_norm.*"), ("head.*", "head.fc.*"))
TWO_HEADS: Pairs = (
    ("norm.*", "head.final_norm.*"),
    ("head.*", "head.fc.layers.0.*"),
    ("head_dist.*", "head.fc.layers.1.*"),
)
ONE_PREFIX: Pairs = (("cls_token", f"{ONLY_STAGE}.prefix.tokens"),)
TWO_PREFIXES: Pairs = (
    ("cls_token", f"{ONLY_STAGE}.prefix.tokens#0/2"),
    ("dist_token", f"{ONLY_STAGE}.prefix.tokens#1/2"),
)

# --- ViT and DeiT -------------------------------------------------------------------------------------------------

_TIMM_VIT: Pairs = (
    ("pos_embed", f"{ONLY_STAGE}.position.table"),
    ("patch_embed.proj.*", f"{ONLY_STAGE}.embed.conv.*"),
    *inside("blocks.{j}", ONLY_BLOCK, (*NORMS_AND_MLP, ("attn.qkv.*", "mixer.qkv.*"), ("attn.proj.*", "mixer.proj.*"))),
)
TIMM_VIT: Pairs = (*ONE_PREFIX, *_TIMM_VIT, *FINAL_NORM_AND_HEAD)
TIMM_DISTILLED: Pairs = (*TWO_PREFIXES, *_TIMM_VIT, *TWO_HEADS)

# transformers renamed the parts of its models in version 5, but not of its files: the files' names first.
_TRANSFORMERS_BLOCK: Pairs = (
    ("layernorm_before.*", "norm1.*"),
    ("layernorm_after.*", "norm2.*"),
    ("intermediate.dense.*", "mlp.fc1.*"),
    ("output.dense.*", "mlp.fc2.*"),
    ("mlp.fc1.*", "mlp.fc1.*"),
    ("mlp.fc2.*", "mlp.fc2.*"),
)


def _transformers_attention(inner: str, ours: str) -> Pairs:
    old = (f"attention.{inner}.query", f"attention.{inner}.key", f"attention.{inner}.value")
    new = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
    return (
        *((f"{name}.*", f"{ours}.qkv.*#{k}/3") for names in (old, new) for k, name in enumerate(names)),
        ("attention.output.dense.*", f"{ours}.proj.*"),
        ("attention.o_proj.*", f"{ours}.proj.*"),
    )


def _transformers_vit(name: str) -> Pairs:
    block = (*_transformers_attention("attention", "mixer"), *_TRANSFORMERS_BLOCK)
    return (
        (f"{name}.embeddings.position_embeddings", f"{ONLY_STAGE}.position.table"),
        (f"{name}.embeddings.patch_embeddings.projection.*", f"{ONLY_STAGE}.embed.conv.*"),
        *inside(f"{name}.encoder.layer.{{j}}", ONLY_BLOCK, block),
        *inside(f"{name}.layers.{{j}}", ONLY_BLOCK, block),
        (f"{name}.layernorm.*", "head.final_norm.*"),
    )


TRANSFORMERS_VIT: Pairs = (
    ("vit.embeddings.cls_token", f"{ONLY_STAGE}.prefix.tokens"),
    *_transformers_vit("vit"),
    ("classifier.*", "head.fc.*"),
)
TRANSFORMERS_DISTILLED: Pairs = (
    ("deit.embeddings.cls_token", f"{ONLY_STAGE}.prefix.tokens#0/2"),
    ("deit.embeddings.distillation_token", f"{ONLY_STAGE}.prefix.tokens#1/2"),
    *_transformers_vit("deit"),
    ("cls_classifier.*", "head.fc.layers.0.*"),
    ("distillation_classifier.*", "head.fc.layers.1.*"),
)

# --- PVT ----------------------------------------------------------------------------------------------------------

PVT: Pairs = (
    ("cls_token", "backbone.stages.3.prefix.tokens"),
    ("pos_embed{i+1}", f"{STAGE}.position.table"),
    ("patch_embed{i+1}.proj.*", f"{STAGE}.embed.conv.*"),
    ("patch_embed{i+1}.norm.*", f"{STAGE}.embed.post_norm.*"),
    *inside(
        "block{i+1}.{j}",
        BLOCK,
        (
            *NORMS_AND_MLP,
            ("attn.q.*", "mixer.q.*"),
            ("attn.kv.*", "mixer.kv.*"),
            ("attn.proj.*", "mixer.proj.*"),
            ("attn.sr.*", "mixer.reduction.conv.*"),
            ("attn.norm.*", "mixer.reduction.norm.*"),
        ),
    ),
    *FINAL_NORM_AND_HEAD,
)
TRANSFORMERS_PVT: Pairs = (
    ("pvt.encoder.patch_embeddings.3.cls_token", "backbone.stages.3.prefix.tokens"),
    *inside(
        "pvt.encoder.patch_embeddings.{i}",
        STAGE,
        (
            ("position_embeddings", "position.table"),
            ("projection.*", "embed.conv.*"),
            ("layer_norm.*", "embed.post_norm.*"),
        ),
    ),
    *inside(
        "pvt.encoder.block.{i}.{j}",
        BLOCK,
        (
            ("layer_norm_1.*", "norm1.*"),
            ("layer_norm_2.*", "norm2.*"),
            ("attention.self.query.*", "mixer.q.*"),
            ("attention.self.key.*", "mixer.kv.*#0/2"),
            ("attention.self.value.*", "mixer.kv.*#1/2"),
            ("attention.self.sequence_reduction.*", "mixer.reduction.conv.*"),
            ("attention.self.layer_norm.*", "mixer.reduction.norm.*"),
            ("attention.output.dense.*", "mixer.proj.*"),
            ("mlp.dense1.*", "mlp.fc1.*"),
            ("mlp.dense2.*", "mlp.fc2.*"),
        ),
    ),
    ("pvt.encoder.layer_norm.*", "head.final_norm.*"),
    ("classifier.*", "head.fc.*"),
)

# --- MLP-Mixer, ResMLP, gMLP --------------------------------------------------------------------------------------

_STEM: Pairs = (("stem.proj.*", f"{ONLY_STAGE}.embed.conv.*"),)
_TIMM_MLP: Pairs = (("mlp_channels.fc1.*", "mlp.fc1.*"), ("mlp_channels.fc2.*", "mlp.fc2.*"))


def _affine(theirs: str, ours: str) -> Pairs:
    return (f"{theirs}.alpha", f"{ours}.weight"), (f"{theirs}.beta", f"{ours}.bias")


_AFFINES: Pairs = (*_affine("norm1", "norm1"), *_affine("norm2", "norm2"))
_AFFINE_AND_HEAD: Pairs = (*_affine("norm", "head.final_norm"), ("head.*", "head.fc.*"))

TIMM_MIXER: Pairs = (
    *_STEM,
    *inside(
        "blocks.{j}",
        ONLY_BLOCK,
        (
            ("norm1.*", "norm1.*"),
            ("norm2.*", "norm2.*"),
            ("mlp_tokens.fc1.*", "mixer.fc1.*"),
            ("mlp_tokens.fc2.*", "mixer.fc2.*"),
            *_TIMM_MLP,
        ),
    ),
    *FINAL_NORM_AND_HEAD,
)
TIMM_RESMLP: Pairs = (
    *_STEM,
    *inside(
        "blocks.{j}",
        ONLY_BLOCK,
        (
            *_AFFINES,
            ("linear_tokens.*", "mixer.fc.*"),
            ("ls1", "branch1.layer_scale.scale"),
            ("ls2", "branch2.layer_scale.scale"),
            *_TIMM_MLP,
        ),
    ),
    *_AFFINE_AND_HEAD,
)
RESMLP: Pairs = (
    ("patch_embed.proj.*", f"{ONLY_STAGE}.embed.conv.*"),
    *inside(
        "blocks.{j}",
        ONLY_BLOCK,
        (
            *_AFFINES,
            ("attn.*", "mixer.fc.*"),
            ("gamma_1", "branch1.layer_scale.scale"),
            ("gamma_2", "branch2.layer_scale.scale"),
            ("mlp.fc1.*", "mlp.fc1.*"),
            ("mlp.fc2.*", "mlp.fc2.*"),
        ),
    ),
    *_AFFINE_AND_HEAD,
)
TIMM_GMLP: Pairs = (
    *_STEM,
    *inside(
        "blocks.{j}",
        ONLY_BLOCK,
        (
            ("norm.*", "norm1.*"),
            ("mlp_channels.gate.norm.*", "mixer.norm.*"),
            ("mlp_channels.gate.proj.*", "mixer.fc.*"),
            ("mlp_channels.fc1.*", "mixer.fc1.*"),
            ("mlp_channels.fc2.*", "mixer.fc2.*"),
        ),
    ),
    *FINAL_NORM_AND_HEAD,
)

# --- Swin and Swin-Mixer ------------------------------------------------------------------------------------------

_PATCHES: Pairs = (
    ("patch_embed.proj.*", "backbone.stages.0.embed.conv.*"),
    ("patch_embed.norm.*", "backbone.stages.0.embed.post_norm.*"),
)
_MERGE: Pairs = (("norm.*", "norm.*"), ("reduction.*", "reduction.*"))
_AT_START = inside("layers.{i}.downsample", f"{STAGE}.embed", _MERGE)
_AT_END = inside("layers.{i}.downsample", "backbone.stages.{i+1}.embed", _MERGE)
_SWIN_BLOCKS = inside(
    "layers.{i}.blocks.{j}",
    BLOCK,
    (
        *NORMS_AND_MLP,
        ("attn.qkv.*", "mixer.mixer.qkv.*"),
        ("attn.proj.*", "mixer.mixer.proj.*"),
        ("attn.relative_position_bias_table", "mixer.mixer.relative.table"),
    ),
)
SWIN: Pairs = (*_PATCHES, *_AT_END, *_SWIN_BLOCKS, *FINAL_NORM_AND_HEAD)
TIMM_SWIN: Pairs = (
    *_PATCHES,
    *_AT_START,
    *_SWIN_BLOCKS,
    ("norm.*", "head.final_norm.*"),
    ("head.fc.*", "head.fc.*"),
)
SWIN_MIXER: Pairs = (
    *_PATCHES,
    *_AT_END,
    *inside("layers.{i}.blocks.{j}", BLOCK, (*NORMS_AND_MLP, ("spatial_mlp.*", "mixer.mixer.fc.*"))),
    *FINAL_NORM_AND_HEAD,
)
TRANSFORMERS_SWIN: Pairs = (
    ("swin.embeddings.patch_embeddings.projection.*", "backbone.stages.0.embed.conv.*"),
    ("swin.embeddings.norm.*", "backbone.stages.0.embed.post_norm.*"),
    *inside("swin.encoder.layers.{i}.downsample", "backbone.stages.{i+1}.embed", _MERGE),
    *inside(
        "swin.encoder.layers.{i}.blocks.{j}",
        BLOCK,
        (
            *_transformers_attention("self", "mixer.mixer"),
            ("attention.self.relative_position_bias_table", "mixer.mixer.relative.table"),
            (
                "attention.relative_position_bias.relative_position_bias_table",
                "mixer.mixer.relative.table",
            ),
            *_TRANSFORMERS_BLOCK,
        ),
    ),
    ("swin.layernorm.*", "head.final_norm.*"),
    ("classifier.*", "head.fc.*"),
)

# --- Google's JAX files -------------------------------------------------------------------------------------------


def _layer(theirs: str, ours: str, piece: str = "") -> Pairs:
    return (f"{theirs}/kernel", f"{ours}.weight{piece}"), (f"{theirs}/bias", f"{ours}.bias{piece}")


def _norm(theirs: str, ours: str) -> Pairs:
    return (f"{theirs}/scale", f"{ours}.weight"), (f"{theirs}/bias", f"{ours}.bias")


_ENCODER = "Transformer/encoderblock_{j}"
_ATTENTION = f"{_ENCODER}/MultiHeadDotProductAttention_1"
JAX_VIT: Pairs = (
    ("cls", f"{ONLY_STAGE}.prefix.tokens"),
    ("Transformer/posembed_input/pos_embedding", f"{ONLY_STAGE}.position.table"),
    *_layer("embedding", f"{ONLY_STAGE}.embed.conv"),
    *_norm(f"{_ENCODER}/LayerNorm_0", f"{ONLY_BLOCK}.norm1"),
    *_layer(f"{_ATTENTION}/query", f"{ONLY_BLOCK}.mixer.qkv", "#0/3"),
    *_layer(f"{_ATTENTION}/key", f"{ONLY_BLOCK}.mixer.qkv", "#1/3"),
    *_layer(f"{_ATTENTION}/value", f"{ONLY_BLOCK}.mixer.qkv", "#2/3"),
    *_layer(f"{_ATTENTION}/out", f"{ONLY_BLOCK}.mixer.proj"),
    *_norm(f"{_ENCODER}/LayerNorm_2", f"{ONLY_BLOCK}.norm2"),
    *_layer(f"{_ENCODER}/MlpBlock_3/Dense_0", f"{ONLY_BLOCK}.mlp.fc1"),
    *_layer(f"{_ENCODER}/MlpBlock_3/Dense_1", f"{ONLY_BLOCK}.mlp.fc2"),
    *_norm("Transformer/encoder_norm", "head.final_norm"),
    *_layer("head", "head.fc"),
)
JAX_MIXER: Pairs = (
    *_layer("stem", f"{ONLY_STAGE}.embed.conv"),
    *_norm("MixerBlock_{j}/LayerNorm_0", f"{ONLY_BLOCK}.norm1"),
    *_layer("MixerBlock_{j}/token_mixing/Dense_0", f"{ONLY_BLOCK}.mixer.fc1"),
    *_layer("MixerBlock_{j}/token_mixing/Dense_1", f"{ONLY_BLOCK}.mixer.fc2"),
    *_norm("MixerBlock_{j}/LayerNorm_1", f"{ONLY_BLOCK}.norm2"),
    *_layer("MixerBlock_{j}/channel_mixing/Dense_0", f"{ONLY_BLOCK}.mlp.fc1"),
    *_layer("MixerBlock_{j}/channel_mixing/Dense_1", f"{ONLY_BLOCK}.mlp.fc2"),
    *_norm("pre_head_layer_norm", "head.final_norm"),
    *_layer("head", "head.fc"),
)
