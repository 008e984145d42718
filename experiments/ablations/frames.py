"""Is it the frame or the mixer? Three token mixers, each in three frames.

    metaformer ablate frames --data digits --seeds 3

The frames are PoolFormer-S12's (a pyramid of four stages, pre-norm with LayerScale), DeiT-S's (one stage of square
patches with a position table and a class token) and ConvFormer's (the second paper's pyramid: StarReLU, ResScale, no
biases, an MLP head). Every frame has twelve blocks, ConvFormer's six fewer than in its S18. The mixers are pooling,
attention and separable convolution: one that is at home in each frame. If the mixer were what matters, the rows of one
mixer would stand together; if the frame is, the rows of one frame do.

In DeiT's frame pooling and convolution mix the patches, and the class token reads the mean of what they mixed: they
have no place for a token outside the map. Attention keeps what its frame gives it: DeiT's biases, CAFormer's lack of
them, the first paper's single one.

At 224 pixels DeiT has 14 patches a side where the pyramids begin with 56; on small images it has 4 where they begin
with 8, so that no frame works on many times the tokens of the others.

9 rows and as many runs a seed, up to 64 pixels at a quarter of all widths, PoolFormer's with a LayerScale of 0.1, under
the recipe ``short``, above that as published under PoolFormer's ImageNet recipe. Parameters and multiply-adds differ
between frames and are in the table.
Only two of these nine were ever published, under recipes of their own, so no rank correlation is to be read from them.
"""

from __future__ import annotations

from metaformer import find
from metaformer.ablation import SMALL_SIDE, Base, Change, Plan
from metaformer.run.recipes import named_recipe

POOLFORMER, DEIT, CONVFORMER = "PoolFormer's frame", "DeiT's frame", "ConvFormer's frame"
TWELVE_BLOCKS = {number: {"depth": depth} for number, depth in enumerate((2, 2, 6, 2), start=1)}


def layer_scale(value: float | None) -> dict[str, dict[str, float | None]]:
    """Another LayerScale in every stage, or none."""
    return {"residual": {"layer_scale": value}}


def changes(width: float, patch: int) -> tuple[Change, ...]:
    """All but the base, frame by frame; the base's LayerScale is PoolFormer's alone."""
    heads = {"name": "attention", "head_dim": round(32 * width), "qkv_bias": False}
    patches = {"embedding": {"kernel": patch, "stride": patch}}
    deit = {"group": DEIT, "model": "deit_small_patch16_224", "stages": {**patches, **layer_scale(None)}}
    convformer = {
        "group": CONVFORMER,
        "model": "convformer_s18",
        "stages": layer_scale(None),
        "stage": TWELVE_BLOCKS,
    }
    return (
        Change(name="PoolFormer, attention", group=POOLFORMER, mixers={**heads, "proj_bias": True}),
        Change(name="PoolFormer, separable conv", group=POOLFORMER, mixers="separable_conv"),
        Change(name="DeiT, pooling", mixers="pooling", **deit),
        Change(name="DeiT, attention", published=find("deit_small_patch16_224").top1, **deit),
        Change(name="DeiT, separable conv", mixers="separable_conv", **deit),
        Change(name="ConvFormer, pooling", mixers="pooling", **convformer),
        Change(name="ConvFormer, attention", mixers={**heads, "proj_bias": False}, **convformer),
        Change(name="ConvFormer, separable conv", **convformer),
    )


def plan(side: int = 224) -> Plan:
    """The rows for images of ``side`` pixels."""
    small = side <= SMALL_SIDE
    pooling = Base(
        name="PoolFormer, pooling",
        group=POOLFORMER,
        model="poolformer_s12",
        published=find("poolformer_s12").top1,
    )
    base = pooling.for_images(side)
    return Plan(
        name="frames",
        title="The frame or the mixer",
        question="The same three token mixers in three frames. Which of the two decides the accuracy?",
        source="MetaFormer, table 2 (ImageNet-1K, each row under its own recipe)",
        base=base,
        recipe=named_recipe("short" if small else "imagenet/poolformer", "poolformer_s12"),
        changes=changes(base.width, patch=2 * max(1, side // 8) if small else 16),
    )
