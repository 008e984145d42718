"""Growth: time and memory of one block over the number of tokens, and the exponents that fit them.

Tokens as in a third stage, 16 pixels apart: N = (side / 16)². One block of PoolFormer-S12's third stage (C = 320, norm,
mixer, channel MLP) with each mixer in turn, in evaluation mode and float32, on one image.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..model.build import build_backbone
from ..spec.model import EmbeddingSpec, MixerSpec, ModelSpec, NormSpec, StageSpec
from .inference import finish_of
from .memory import peak_bytes, standing_bytes
from .rounds import Call, Pace, PowerLaw, in_turns
from .setting import Tell

STRIDE, WIDTH = 16, 320
SIDES = (224, 320, 448, 640, 800, 1024)
MIXERS: Mapping[str, MixerSpec] = {
    "pooling": MixerSpec(name="pooling"),
    "spatial reduction": MixerSpec(name="reduced_attention", args={"ratio": 2, "head_dim": 32}),
    "attention": MixerSpec(name="attention"),
    "spatial FC": MixerSpec(name="spatial_fc"),
}


@dataclass(kw_only=True)
class Curve:
    """One mixer's block at every size."""

    mixer: str
    tokens: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    """The block's weights and what its call takes at most beyond them and its input."""
    times: list[list[float]] = field(default_factory=list)
    """Seconds of a call for each number of tokens, a round after the other."""
    note: str = ""
    """Why it was given up."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with the exponents worked out."""
        told = asdict(self)
        if not self.note and len(self.tokens) > 2 and all(self.times):
            told["time"] = asdict(PowerLaw.fitted(self.tokens, [statistics.median(times) for times in self.times]))
            told["memory"] = asdict(PowerLaw.fitted(self.tokens, self.bytes))
        return told


def block_call(mixer: MixerSpec, side: int, device: torch.device) -> tuple[Call, int]:
    """A call of one block on the tokens (1, N, C) of an image, and the bytes of its weights."""
    stem = EmbeddingSpec(kernel=STRIDE, stride=STRIDE, padding=0)
    stage = StageSpec(depth=1, width=WIDTH, embedding=stem, mixer=mixer, norm=NormSpec(kind="group"))
    with device:
        block = build_backbone(ModelSpec(stages=(stage,), img_size=(side, side))).stages[0].blocks[0].eval()  # type: ignore[union-attr, index]
        grid = (side // STRIDE, side // STRIDE)
        x = torch.randn(1, grid[0] * grid[1], WIDTH)

    def call() -> object:
        with torch.inference_mode():
            return block(x, grid)

    return call, standing_bytes(block.parameters())


def grow(sides: Sequence[int], device: torch.device, pace: Pace, tell: Tell) -> Iterator[list[Curve]]:
    """The curves after each finished round."""
    curves = {name: Curve(mixer=name) for name in MIXERS}
    calls: dict[str, Call] = {}
    where: dict[str, tuple[str, int]] = {}
    for name, mixer in MIXERS.items():
        for place, side in enumerate(sides):
            tell(f"builds {name} for {side} pixels")
            call, weights = block_call(mixer, side, device)
            curve, key = curves[name], f"{name}, {side} pixels"
            curve.tokens.append((side // STRIDE) ** 2)
            curve.bytes.append(weights + peak_bytes(call, device))
            curve.times.append([])
            calls[key], where[key] = call, (name, place)
    for turns in in_turns(calls, pace, finish=finish_of(device), tell=tell):
        for key, turn in turns.items():
            name, place = where[key]
            if isinstance(turn, Exception):
                curves[name].note = f"{type(turn).__name__}: {turn}"
            else:
                curves[name].times[place].append(turn)
        yield list(curves.values())
