"""Which stages need a stronger mixer? Every assignment of pooling, attention and spatial FC that the paper trained.

    metaformer ablate hybrids --data digits --seeds 3

The paper pools on the large maps and uses attention or spatial FC in the last one or two stages, where few tokens are
left (MetaFormer, section 4.4 and table 5). It trained no other assignment. Its hybrids with attention also have a
channel LayerNorm and a learned position table. The plan therefore has a variant of pooling with that LayerNorm, which
shows the norm's part of the difference.

There are 6 variants, so 6 runs per seed. Up to 64 pixels the base is PoolFormer-S12 at a quarter of its widths, with a
LayerScale of 0.1, and the recipe is ``short``; above that the models are as published and the recipe is PoolFormer's
for ImageNet, 4.3 to 6.1 · 10¹⁸ operations per run. The paper trained the two variants with attention in batches of 1024
instead of 4096 (``experiments/imagenet/hybrids.py``); a plan has one recipe.
"""

from __future__ import annotations

from metaformer import find
from metaformer.ablation import SMALL_SIDE, Base, Change, Plan
from metaformer.run.recipes import named_recipe

CHANNEL_NORM = {"kind": "layer", "eps": 1e-5}


def hybrid(name: str, group: str, model: str) -> Change:
    """A published model with the top-1 that the paper prints."""
    return Change(name=name, group=group, model=model, published=find(model).top1)


CHANGES = (
    Change(
        name="channel LayerNorm",
        group="pooling",
        about="pooling with the norm of the hybrids with attention",
        stages={"norm": CHANNEL_NORM},
        head={"norm": CHANNEL_NORM},
        published=76.5,
    ),
    hybrid("attention in stage 4", "attention", "metaformer_pppa_s12_224"),
    hybrid("attention in stages 3 and 4", "attention", "metaformer_ppaa_s12_224"),
    hybrid("spatial FC in stage 4", "spatial FC", "metaformer_pppf_s12_224"),
    hybrid("spatial FC in stages 3 and 4", "spatial FC", "metaformer_ppff_s12_224"),
)


def plan(side: int = 224) -> Plan:
    """The plan for images of ``side`` pixels."""
    pooling = Base(
        name="pooling in every stage",
        group="pooling",
        model="poolformer_s12",
        published=find("poolformer_s12").top1,
    )
    return Plan(
        name="hybrids",
        title="Which stages need more than pooling",
        question="Attention or spatial FC in the last stages, pooling before them: what does each stage gain?",
        source="MetaFormer, table 5 (ImageNet-1K, 300 epochs)",
        base=pooling.for_images(side),
        recipe=named_recipe("short" if side <= SMALL_SIDE else "imagenet/poolformer", "poolformer_s12"),
        changes=CHANGES,
    )
