"""Scaling: time and memory of one block over the number of tokens, and the exponents fitted to them.

The tokens are those of a third stage, 16 pixels apart: N = (side / 16)². One block of PoolFormer-S12's third stage
(C = 320, norm, mixer, channel MLP) is measured with each mixer, in evaluation mode and float32, on one image.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..model.build import build_backbone
from ..spec.mixer import MixerSpec
from ..spec.model import EmbeddingSpec, ModelSpec, NormSpec, StageSpec
from .inference import finish_of
from .memory import peak_bytes, tensor_bytes
from .rounds import Call, Pace, PowerLaw, in_turns
from .setting import OnStep

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
    """The block with one mixer at every size."""

    mixer: str
    tokens: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    """The block's weights plus the peak of its call beyond them and its input."""
    times: list[list[float]] = field(default_factory=list)
    """Seconds of a call in each round, for each number of tokens."""
    note: str = ""
    """The exception that ended the measurement."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with the fitted exponents."""
        found = asdict(self)
        if not self.note and len(self.tokens) > 2 and all(self.times):
            found["time"] = asdict(PowerLaw.fit(self.tokens, [statistics.median(times) for times in self.times]))
            found["memory"] = asdict(PowerLaw.fit(self.tokens, self.bytes))
        return found


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

    return call, tensor_bytes(block.parameters())


def measure_scaling(sides: Sequence[int], device: torch.device, pace: Pace, on_step: OnStep) -> Iterator[list[Curve]]:
    """The curves after each finished round."""
    curves = {name: Curve(mixer=name) for name in MIXERS}
    calls: dict[str, Call] = {}
    points: dict[str, tuple[str, int]] = {}
    for name, mixer in MIXERS.items():
        for index, side in enumerate(sides):
            on_step(f"building {name} for {side} pixels")
            call, weights = block_call(mixer, side, device)
            curve, key = curves[name], f"{name}, {side} pixels"
            curve.tokens.append((side // STRIDE) ** 2)
            curve.bytes.append(weights + peak_bytes(call, device))
            curve.times.append([])
            calls[key], points[key] = call, (name, index)
    for turns in in_turns(calls, pace, finish=finish_of(device), on_turn=on_step):
        for key, turn in turns.items():
            name, index = points[key]
            if isinstance(turn, Exception):
                curves[name].note = f"{type(turn).__name__}: {turn}"
            else:
                curves[name].times[index].append(turn)
        yield list(curves.values())
