"""Every token mixer of the library in one frame and under one recipe: what does the mixer alone decide?

    metaformer ablate mixers --data digits --seeds 3

The frame is the plan ``paper``'s: PoolFormer-S12, up to 64 pixels at a quarter of its widths, with a LayerScale of 0.1
and under the recipe ``short``, above that as published and under the published ImageNet recipe. 13 rows and as many
runs a seed. Only the mixer changes: norm, channel MLP and LayerScale stay, and no row gets a position table, which
costs attention more than the others. Each mixer is given what its place asks for and no more:

- attention has PoolFormer's hybrids' heads; keys and values of the reduced one come from 7 × 7 places of a map
  at 224 pixels and from 2 × 2 on the smallest images;
- windows have 7 tokens a side at 224 pixels and 2 on small images, so that one holds the last map, as in Swin;
- the gating unit widens by 2 and not by its paper's 6, because the frame's channel MLP stays beside it;
- the Fourier transform is orthonormal, because the frame normalizes before the mixer and not behind it.

Four rows are in the paper's table 5 and carry its top-1. Rows differ in parameters and multiply-adds, which the
report's table shows: read the accuracy beside them. At 224 pixels matrices over 56 × 56 tokens have 10 million entries
a block, and attention over as many tokens takes most of the time.
"""

from __future__ import annotations

from metaformer.ablation import SMALL_SIDE, Base, Change, Plan
from metaformer.run.recipes import named_recipe

LOCAL = "local"


def changes(width: float, small: bool) -> tuple[Change, ...]:
    """The rows; those that the paper has with the top-1 that it prints."""
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
    nothing, square, everywhere, spectral = "no mixing", "windows", "global", "spectral"
    return (
        Change(name="identity", group=nothing, mixers="identity", published=74.3),
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
    """The rows for images of ``side`` pixels."""
    base = Base(name="pooling", group=LOCAL, model="poolformer_s12", published=77.2).for_images(side)
    small = side <= SMALL_SIDE
    return Plan(
        name="mixers",
        title="Every token mixer in PoolFormer's frame",
        question="The frame and the recipe stay, the token mixer changes. How far apart are the mixers?",
        source="MetaFormer, table 5 (ImageNet-1K, 300 epochs), for the rows that it has",
        base=base,
        recipe=named_recipe("short" if small else "imagenet/poolformer", "poolformer_s12"),
        changes=changes(base.width, small),
    )
