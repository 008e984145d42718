"""Which models of the zoo have the tensors of a checkpoint, to name them to whoever loads it into another model.

In: tensors under our names. Out: names of models. Backbones are compared, built without memory for their tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..model.build import build_backbone
from ..spec.model import ModelSpec
from ..zoo.catalogue import CATALOGUE
from .match_tensors import without_unit_axes

STEM, TABLE = "backbone.stages.0.embed.conv.weight", "position.table"
SCORES = ("head.fc.weight", "head.fc.layers.0.weight")


def look_alikes(tensors: Mapping[str, Tensor], limit: int = 3) -> list[str]:
    """The models whose backbones have the same names and shapes; those with the same image size and number of classes
    first. Mixers without weights cannot be told apart."""
    found = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    if STEM not in found:
        return []
    blocks = {tuple(name.split(".")[2:5]) for name in found if ".blocks." in name}
    classes = next((tensors[name].shape[0] for name in SCORES if name in tensors), 0)
    alike: list[tuple[int, str]] = []
    specs = {row.name: row.spec for row in CATALOGUE.values() if isinstance(row.spec, ModelSpec)}
    for name, spec in specs.items():
        if spec.stages[0].width != len(found[STEM]) or sum(stage.depth for stage in spec.stages) != len(blocks):
            continue  # width and depth rule most models out, and building one takes 0.1 s
        with torch.device("meta"):
            wanted = build_backbone(spec).state_dict(prefix="backbone.")
        other = [key for key in wanted if key in found and not _same_shape(found[key], wanted[key])]
        if wanted.keys() == found.keys() and all(key.endswith(TABLE) for key in other):
            alike.append((len(other) + (classes != spec.num_classes), name))
    return [name for _, name in sorted(alike, key=lambda one: one[0])][:limit]


def _same_shape(one: Tensor, other: Tensor) -> bool:
    return without_unit_axes(one.shape) == without_unit_axes(other.shape)
