"""Every token mixer of the library in the same model and under one recipe: what does the mixer alone decide?

    metaformer ablate mixers --data digits --seeds 3

There are 13 variants, so 13 runs per seed. The base is that of the plan ``paper``: up to 64 pixels PoolFormer-S12 at a
quarter of its widths, with a LayerScale of 0.1, under the recipe ``short``; above that as published, under the
published ImageNet recipe. Only the mixer changes: norm, channel MLP and LayerScale stay, and no variant gets a position
table, which puts attention at a disadvantage. The mixers' own arguments are:

- attention has the heads of PoolFormer's hybrids; keys and values of the reduced one come from 7 × 7 places of a map
  at 224 pixels and from 2 × 2 on the smallest images;
- windows have 7 tokens per side at 224 pixels and 2 on small images, so that one covers the last map, as in Swin;
- the gating unit widens by 2 and not by its paper's 6, because the base's channel MLP stays beside it;
- the Fourier transform is orthonormal, because the base normalizes before the mixer and not after it.

Four variants are in the paper's table 5 and have its top-1. The variants differ in parameters and multiply-adds, which
are in the report's table: compare accuracies with these in mind. At 224 pixels a matrix over 56 × 56 tokens has 10
million entries per block, and attention over as many tokens takes most of the time.
"""

from __future__ import annotations

from metaformer.ablation import SMALL_SIDE, Base, Change, Plan
from metaformer.run.recipes import named_recipe

LOCAL = "local"


def changes(width: float, small: bool) -> tuple[Change, ...]:
    """The changes; those of the paper have the top-1 that it prints."""
    window, reductions = (2, (4, 2, 1, 1)) if small else (7, (8, 4, 2, 1))
    heads = {"head_dim": round(32 * width), "qkv_bias": False, "proj_bias": True}
    attention = {"name": "attention", **heads}
    reduced = [{"name": "reduced_attention", "ratio": ratio, **heads} for ratio in reductions]
    relative = {**attention, "relative_position": True}
    windows = {"name": "window", "window": window}
    attention_windows = {**windows, "shift": "roll", "mixer": relative}
    fc_windows = [
        {**windows, "shift": "pad", "mixer": {"name": "spatial_fc", "heads": count, "bias": True}}
        for count in (2, 4, 10, 16)  # as many heads as attention has
    ]
    none, square, everywhere, spectral = "no mixing", "windows", "global", "spectral"
    return (
        Change(name="identity", group=none, mixers="identity", published=74.3),
        Change(name="depthwise conv", group=LOCAL, mixers="depthwise_conv(kernel=3)", published=78.1),
        Change(name="separable conv", group=LOCAL, mixers="separable_conv"),
        Change(name="attention in windows", group=square, mixers=attention_windows),
        Change(name="spatial FC in windows", group=square, mixers=fc_windows),
        Change(name="random matrix", group=everywhere, mixers="random", published=75.8),
        Change(name="spatial FC", group=everywhere, mixers="spatial_fc"),
        Change(name="spatial MLP", group=everywhere, mixers="spatial_mlp"),
        Change(name="gating unit", group=everywhere, mixers="gating_unit(ratio=2.0)"),
        Change(name="attention", group=everywhere, mixers=attention),
        Change(name="reduced attention", group=everywhere, mixers=reduced),
        Change(name="Fourier", group=spectral, mixers="fourier(orthonormal=True)"),
    )


def plan(side: int = 224) -> Plan:
    """The plan for images of ``side`` pixels."""
    base = Base(name="pooling", group=LOCAL, model="poolformer_s12", published=77.2).for_images(side)
    small = side <= SMALL_SIDE
    return Plan(
        name="mixers",
        title="Every token mixer in PoolFormer",
        question="Only the token mixer changes. How far apart are the mixers?",
        source="MetaFormer, table 5 (ImageNet-1K, 300 epochs), for the variants that it has",
        base=base,
        recipe=named_recipe("short" if small else "imagenet/poolformer", "poolformer_s12"),
        changes=changes(base.width, small),
    )
