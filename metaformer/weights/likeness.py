"""Which published models a checkpoint looks like, told from a few names and shapes; nothing is built.

In: tensors under our names. Out: names of the zoo, to help a person who loads a file into another model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice

from torch import Tensor

from ..spec import MixerSpec, ModelSpec
from ..zoo.catalogue import CATALOGUE

Likeness = tuple[tuple[tuple[int, int, str], ...], bool, int | None]
"""(Depth, width, trace of the mixer) of each stage, whether LayerScale is on, and the number of classes."""

_BLOCK = re.compile(r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.(.+)")
_TRACES = {"mixer.qkv.weight": "attention", "mixer.dwconv.weight": "separable_conv", "mixer.matrix": "random"}
_TRACES |= {"mixer.fc.weight": "spatial_fc", "mixer.conv.weight": "depthwise_conv"}
_TRACELESS = ""


def look_alikes(tensors: Mapping[str, Tensor], limit: int = 3) -> list[str]:
    """The zoo's models with the same stages, head and kind of mixer; mixers without weights cannot be told apart."""
    seen = _of_tensors(tensors)
    specs = {row.name: row.spec for row in CATALOGUE.values()}
    alike = (name for name, spec in specs.items() if isinstance(spec, ModelSpec) and _of_spec(spec) == seen)
    return list(islice(alike, limit))


def _of_spec(spec: ModelSpec) -> Likeness:
    stages = []
    for stage in spec.stages:
        name = stage.mixer.name if isinstance(stage.mixer, MixerSpec) else _TRACELESS
        stages.append((stage.depth, stage.width, name if name in _TRACES.values() else _TRACELESS))
    scaled = any(stage.residual.layer_scale is not None for stage in spec.stages)
    return tuple(stages), scaled, spec.num_classes or None


def _of_tensors(tensors: Mapping[str, Tensor]) -> Likeness:
    depths: dict[int, int] = {}
    widths: dict[int, int] = {}
    traces: dict[int, str] = {}
    scaled = False
    for name, tensor in tensors.items():
        match = _BLOCK.fullmatch(name)
        if match is None:
            continue
        stage, block, rest = int(match[1]), int(match[2]), match[3]
        depths[stage] = max(depths.get(stage, 0), block + 1)
        if rest == "norm1.weight":
            widths[stage] = tensor.shape[0]
        traces[stage] = _TRACES.get(rest, traces.get(stage, _TRACELESS))
        scaled = scaled or rest.startswith("branch1.layer_scale")
    stages = tuple((depths[i], widths.get(i, 0), traces[i]) for i in sorted(depths))
    head = tensors.get("head.fc.weight")
    return stages, scaled, None if head is None else head.shape[0]
