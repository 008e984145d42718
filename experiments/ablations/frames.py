"""Is it the frame or the mixer? Three token mixers, each in three frames.

    metaformer ablate frames --data digits --seeds 3

A frame is everything but the mixer. The frames are PoolFormer-S12's (a pyramid of four stages, pre-norm with
LayerScale), DeiT-S's (one stage of square patches with a position table and a class token) and ConvFormer's (the second
paper's pyramid: StarReLU, ResScale, no biases, an MLP head). Every frame has twelve blocks; ConvFormer's S18 has
eighteen. The mixers are pooling, attention and separable convolution, each of which was published in one of the frames.
If the mixer decides, variants with the same mixer have similar results; if the frame does, those with the same frame.

In DeiT's frame pooling and convolution mix the patches only, and the class token reads the mean of the mixed patches,
because these mixers cannot mix a token outside the map. Attention keeps the biases of its frame: DeiT's, CAFormer's
(none), and the first paper's (one on the projection).

At 224 pixels DeiT has 14 patches per side and the pyramids begin with 56. On small images it has 4 and they begin with
8, so that no frame works on many times the tokens of the others.

There are 9 variants, so 9 runs per seed. Up to 64 pixels all widths are a quarter, PoolFormer's frame has a LayerScale
of 0.1, and the recipe is ``short``; above that the frames are as published and the recipe is PoolFormer's for ImageNet.
Parameters and multiply-adds differ between frames and are in the table. Only two of the nine variants were published,
each under a recipe of its own, so a rank correlation with the published numbers says nothing here.
"""

from __future__ import annotations

from metaformer import find
from metaformer.ablation import SMALL_SIDE, Base, Change, Plan
from metaformer.run.recipes import named_recipe

POOLFORMER, DEIT, CONVFORMER = "PoolFormer's frame", "DeiT's frame", "ConvFormer's frame"
TWELVE_BLOCKS = {number: {"depth": depth} for number, depth in enumerate((2, 2, 6, 2), start=1)}


def layer_scale(value: float | None) -> dict[str, dict[str, float | None]]:
    """Another LayerScale in every stage; None removes it."""
    return {"residual": {"layer_scale": value}}


def changes(width: float, patch: int) -> tuple[Change, ...]:
    """All variants but the base, frame by frame; only PoolFormer's frame has the base's LayerScale."""
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
    """The plan for images of ``side`` pixels."""
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
        source="MetaFormer, table 2 (ImageNet-1K, each model under its own recipe)",
        base=base,
        recipe=named_recipe("short" if small else "imagenet/poolformer", "poolformer_s12"),
        changes=changes(base.width, patch=2 * max(1, side // 8) if small else 16),
    )
