"""The small version of the paper's table: what `make demo` trains, on images that need no download.

    metaformer ablate demo --data digits --seeds 3

PoolFormer's pyramid shrunk to scikit-learn's 8 × 8 digits: ten blocks in three stages on grids of 8, 4 and 2, most of
the depth in the middle, 16 to 64 channels. There are 7 variants, so 7 runs per seed, each of which takes seconds. All
variants are in table 5, so the report compares their order with the paper's. Larger images get a stem with a larger
stride, so that the grids stay the same.
"""

from __future__ import annotations

from metaformer import EmbeddingSpec, HeadSpec, MixerSpec, MLPSpec, ModelSpec, NormSpec, StageSpec
from metaformer.ablation import Base, Change, Plan
from metaformer.recipe import Augmentation, DataConfig, Machine, OptimizerConfig, Recipe

NORM = NormSpec(kind="group", eps=1e-5)
CHANNEL_NORM = {"kind": "layer"}
ATTENTION = {"name": "attention", "head_dim": 16, "qkv_bias": False, "proj_bias": True}


def pyramid(side: int) -> ModelSpec:
    """Three stages behind a stem whose windows overlap, as those of the published stem do."""
    stride = max(1, side // 8)
    stem = EmbeddingSpec(kernel=2 * stride + 1, stride=stride, padding=stride)
    down = EmbeddingSpec(kernel=3, stride=2, padding=1)
    stages = tuple(
        StageSpec(
            depth=depth,
            width=width,
            embedding=embedding,
            mixer=MixerSpec(name="pooling"),
            mlp=MLPSpec(ratio=2.0),
            norm=NORM,
        )
        for depth, width, embedding in ((2, 16, stem), (6, 32, down), (2, 64, down))
    )
    return ModelSpec(stages=stages, head=HeadSpec(norm=NORM), img_size=(side, side), init="poolformer")


CHANGES = (
    Change(name="identity", group="token mixer", mixers="identity", published=74.3),
    Change(name="depthwise conv", group="token mixer", mixers="depthwise_conv(kernel=3)", published=78.1),
    Change(
        name="attention in the last two stages",
        group="token mixer",
        about="with channel LayerNorm and a position table, as in the paper",
        mixers=["pooling", ATTENTION, ATTENTION],
        stages={"norm": CHANNEL_NORM},
        stage={2: {"position": True}},
        head={"norm": CHANNEL_NORM},
        published=81.0,
    ),
    Change(name="ReLU", group="activation", stages={"mlp": {"activation": "relu"}}, published=76.4),
    Change(name="no residual", group="architecture", stages={"residual": {"on": False}}, published=0.1),
    Change(name="no channel MLP", group="architecture", stages={"mlp": None}, published=5.7),
)


def plan(side: int = 8) -> Plan:
    """The plan for images of ``side`` pixels."""
    return Plan(
        name="demo",
        title="Is the token mixer what you need?",
        question="Is it the token mixer that makes the model, or the architecture around it?",
        source="MetaFormer, table 5 (ImageNet-1K, 300 epochs)",
        base=Base(name="pooling", about="each token takes its neighbors' mean", spec=pyramid(side), published=77.2),
        recipe=Recipe(
            data=DataConfig(source="digits"),
            augmentation=Augmentation(policy="none", mixup=0.2),
            optimizer=OptimizerConfig(
                epochs=12,
                batch_size=64,
                lr=4e-3,
                weight_decay=0.05,
                warmup_epochs=0.5,
                min_lr=1e-5,
                clip_grad=1.0,
            ),
            machine=Machine(device="cpu", threads=1, save_minutes=60),
        ),
        changes=CHANGES,
    )
