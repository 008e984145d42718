"""Every row of the paper's ablation table (MetaFormer, table 5), on one base and under one recipe.

    metaformer ablate paper --data digits --seeds 3

There are 18 variants, so 18 runs per seed. Up to 64 pixels the base is PoolFormer-S12 at a quarter of its widths, and
the recipe is ``short``; above that it is PoolFormer-S12 under the published ImageNet recipe, 4.3 · 10¹⁸ operations per
run. ``Base.for_images`` says what else is different in the small base, and why.
"""

from __future__ import annotations

from metaformer.ablation import SMALL_SIDE, Base, Change, Plan
from metaformer.run.recipes import named_recipe

POOL, FC = "pooling", "spatial_fc"
CHANNEL_NORM = {"kind": "layer", "eps": 1e-5}


def attention(head_dim: int) -> dict[str, object]:
    """The paper's attention: no bias on queries, keys and values, a bias on the projection."""
    return {"name": "attention", "head_dim": head_dim, "qkv_bias": False, "proj_bias": True}


def normed(norm: dict[str, object]) -> dict[str, dict[str, object]]:
    """Another norm in every block and before the head."""
    return {"stages": {"norm": norm}, "head": {"norm": norm}}


def changes(width: float) -> tuple[Change, ...]:
    """The changes, with the top-1 that the paper prints."""
    attend = attention(round(32 * width))
    mixer, size, norm, activation, part, hybrid = (
        "token mixer", "pooling size", "norm", "activation", "architecture", "hybrid"
    )  # fmt: skip
    return (
        Change(name="identity", group=mixer, mixers="identity", published=74.3),
        Change(name="random matrix", group=mixer, mixers="random", published=75.8),
        Change(name="depthwise conv", group=mixer, mixers="depthwise_conv(kernel=3)", published=78.1),
        Change(name="pool size 5", group=size, mixers="pooling(kernel=5)", published=77.2),
        Change(name="pool size 7", group=size, mixers="pooling(kernel=7)", published=77.1),
        Change(name="pool size 9", group=size, mixers="pooling(kernel=9)", published=76.8),
        Change(name="channel LayerNorm", group=norm, published=76.5, **normed(CHANNEL_NORM)),
        Change(name="BatchNorm", group=norm, published=76.4, **normed({"kind": "batch"})),
        Change(name="no norm", group=norm, published=46.1, **normed({"kind": "none"})),
        Change(name="ReLU", group=activation, stages={"mlp": {"activation": "relu"}}, published=76.4),
        Change(name="SiLU", group=activation, stages={"mlp": {"activation": "silu"}}, published=77.2),
        Change(name="no residual", group=part, stages={"residual": {"on": False}}, published=0.1),
        Change(name="no channel MLP", group=part, stages={"mlp": None}, published=5.7),
        Change(
            name="attention in stage 4",
            group=hybrid,
            mixers=(POOL, POOL, POOL, attend),
            stage={4: {"position": True}},
            published=78.3,
            **normed(CHANNEL_NORM),
        ),
        Change(
            name="attention in stages 3 and 4",
            group=hybrid,
            mixers=(POOL, POOL, attend, attend),
            stage={3: {"position": True}},
            published=81.0,
            **normed(CHANNEL_NORM),
        ),
        Change(name="spatial FC in stage 4", group=hybrid, mixers=(POOL, POOL, POOL, FC), published=77.5),
        Change(name="spatial FC in stages 3 and 4", group=hybrid, mixers=(POOL, POOL, FC, FC), published=77.9),
    )


def plan(side: int = 224) -> Plan:
    """The plan for images of ``side`` pixels."""
    base = Base(name="PoolFormer", model="poolformer_s12", published=77.2).for_images(side)
    return Plan(
        name="paper",
        title="What makes PoolFormer work",
        question="The paper changes one part of PoolFormer-S12 at a time. Which parts matter, in which order?",
        source="MetaFormer, table 5 (ImageNet-1K, 300 epochs)",
        base=base,
        recipe=named_recipe("short" if side <= SMALL_SIDE else "imagenet/poolformer", "poolformer_s12"),
        changes=changes(base.width),
    )
