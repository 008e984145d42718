"""Which published models a checkpoint looks like, told from a few names and shapes; nothing is built.

In: tensors under our names. Out: names of the zoo, to help a person who loads a file into another model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

from ..spec.model import MixerSpec, ModelSpec
from ..zoo.catalogue import CATALOGUE


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What tells the zoo's models apart."""

    stages: tuple[tuple[int, int, str], ...]
    """(Depth, width, trace of the mixer) of each stage."""
    prefix_tokens: int
    """How many run along at the end."""
    kernel: int
    """Side of the first convolution: an isotropic model's patches."""
    scaled: bool
    """Whether LayerScale is on."""
    num_classes: int | None
    """Width of the scores; None without a last layer."""


_BLOCK = re.compile(r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.(.+)")
_PREFIX = re.compile(r"backbone\.stages\.\d+\.prefix\.tokens")
_POSITION = re.compile(r"backbone\.stages\.\d+\.position\.table")
_FIRST_CONV = "backbone.stages.0.embed.conv.weight"
_TRACES = {
    "mixer.norm.weight": "gating_unit",
    "mixer.qkv.weight": "attention",
    "mixer.kv.weight": "reduced_attention",
    "mixer.dwconv.weight": "separable_conv",
    "mixer.conv.weight": "depthwise_conv",
    "mixer.matrix": "random",
    "mixer.fc.weight": "spatial_fc",
    "mixer.fc1.weight": "spatial_mlp",
}
"""The tensor that gives a mixer away; of two that are there the first counts."""
_TRACELESS = ""


def look_alikes(tensors: Mapping[str, Tensor], limit: int = 3) -> list[str]:
    """The zoo's models with the same stages, head and kind of mixer, those for as many positions first.

    Mixers without weights cannot be told apart.
    """
    seen, positions = _of_tensors(tensors), _positions(tensors)
    specs = {row.name: row.spec for row in CATALOGUE.values()}
    alike = {name: spec for name, spec in specs.items() if isinstance(spec, ModelSpec) and _of_spec(spec) == seen}
    return sorted(alike, key=lambda name: _positions_of(alike[name]) != positions)[:limit]


def _of_spec(spec: ModelSpec) -> Likeness:
    return Likeness(
        stages=tuple((stage.depth, stage.width, _trace_of(stage.mixer)) for stage in spec.stages),
        prefix_tokens=sum(stage.prefix_tokens for stage in spec.stages),
        kernel=spec.stages[0].embedding.kernel,
        scaled=any(stage.residual.layer_scale is not None for stage in spec.stages),
        num_classes=spec.num_classes or None,
    )


def _trace_of(mixer: Any) -> str:
    """``attention``, ``window of attention``, ``window of spatial_fc in 4 heads``."""
    if not isinstance(mixer, MixerSpec):
        return _TRACELESS
    if mixer.name == "window":
        inner = mixer.args.get("mixer", "attention")
        inner = MixerSpec(name=inner) if isinstance(inner, str) else MixerSpec(**inner)
        return f"window of {_trace_of(inner)}"
    heads = mixer.args.get("heads", 1) if mixer.name == "spatial_fc" else 1
    return _in_heads(mixer.name, heads) if mixer.name in _TRACES.values() else _TRACELESS


def _in_heads(trace: str, heads: int) -> str:
    return f"{trace} in {heads} heads" if heads > 1 else trace


def _of_tensors(tensors: Mapping[str, Tensor]) -> Likeness:
    depths: dict[int, int] = {}
    firsts: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _BLOCK.fullmatch(name):
            stage, block = int(match[1]), int(match[2])
            depths[stage] = max(depths.get(stage, 0), block + 1)
            if block == 0:
                firsts.setdefault(stage, {})[match[3]] = tensor
    head = tensors.get("head.fc.weight", tensors.get("head.fc.layers.0.weight"))
    kernel = tensors.get(_FIRST_CONV)
    return Likeness(
        stages=tuple((depths[i], *_width_and_trace(firsts.get(i, {}))) for i in sorted(depths)),
        prefix_tokens=sum(tensor.shape[1] for name, tensor in tensors.items() if _PREFIX.fullmatch(name)),
        kernel=0 if kernel is None else kernel.shape[-1],
        scaled=any("branch1.layer_scale.scale" in first for first in firsts.values()),
        num_classes=None if head is None else head.shape[0],
    )


def _width_and_trace(block: Mapping[str, Tensor]) -> tuple[int, str]:
    """What the tensors of a block say of its width and of its mixer."""
    norm = block.get("norm1.weight", block.get("out_norm1.weight"))
    inside = {name.removeprefix("mixer."): tensor for name, tensor in block.items() if name.startswith("mixer.mixer.")}
    mixer = inside or block
    tell = next((name for name in _TRACES if name in mixer), None)
    trace = _TRACELESS if tell is None else _TRACES[tell]
    if tell == "mixer.fc.weight":
        trace = _in_heads(trace, mixer[tell].shape[0] // mixer[tell].shape[1])
    return 0 if norm is None else norm.numel(), f"window of {trace}" if inside else trace


def _positions(tensors: Mapping[str, Tensor]) -> int:
    """Positions of the first table; none where there is no table."""
    table = next((tensor for name, tensor in tensors.items() if _POSITION.fullmatch(name)), None)
    return 0 if table is None else table.shape[1] if table.ndim == 3 else prod(table.shape[2:])


def _positions_of(spec: ModelSpec) -> int:
    return next(
        (s.prefix_tokens + prod(grid) for s, grid in zip(spec.stages, spec.grids(), strict=True) if s.position), 0
    )
