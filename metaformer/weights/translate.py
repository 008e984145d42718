"""A model's weights in the names and shapes of another library: the inverse of loading.

In: a model. Out: a state dict that the named library loads strictly.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from ..errors import WeightsError, did_you_mean
from ..model.embed import Position
from ..model.timm_cnn import PREFIX, TimmClassifier
from .layouts import NAMES, Layout
from .rename import layout_for, their_names
from .split_tensors import split_part, whole_name


def to_layout(model: nn.Module, layout: str) -> dict[str, Tensor]:
    """A model's state dict as another library lays it out.

    Args:
        model: the model.
        layout: ``official`` (of the paper the model comes from; timm's where its authors use timm's model or published
            no PyTorch code), ``official-v1``, ``official-v2``, ``official-pvt``, ``official-resmlp``,
            ``official-swin``, ``official-swin-mixer``, ``timm``, ``huggingface`` (the names in transformers' files),
            ``mmpretrain`` or ``metaformer``.

    Raises:
        WeightsError: an unknown layout, or one that has no name for a part of this model.
    """
    if layout not in ("official", *NAMES):
        raise WeightsError(f"unknown layout {layout!r}. {did_you_mean(layout, ['official', *NAMES])}")
    state = model.state_dict()
    if isinstance(model, TimmClassifier) and layout in ("official", "timm"):  # its published files are timm's
        return {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    chosen = layout_for(layout, state)
    attention = {_stage(name) for name in state if ".mixer.qkv." in name}
    return {
        theirs: split_part(ours, _reshaped(model, whole_name(ours), state[whole_name(ours)], chosen, attention))
        for ours, theirs in their_names(chosen, state).items()
    }


def _reshaped(model: nn.Module, name: str, tensor: Tensor, layout: Layout, attention: set[str]) -> Tensor:
    """A tensor in the shape that a layout has it in; ``attention`` are the stages with attention in them."""
    if layout.position_maps and name.endswith("position.table"):
        position = model.get_submodule(name.removesuffix(".table"))
        assert isinstance(position, Position)
        return tensor.transpose(1, 2).reshape(1, -1, *position.grid)
    if not layout.unit_axes_beside_attention and _stage(name) in attention:
        return tensor
    for pattern, axes in layout.unit_axes:
        if re.search(pattern, name):
            for axis in axes:
                tensor = tensor.unsqueeze(axis)
    return tensor


def _stage(name: str) -> str:
    match = re.match(r"backbone\.stages\.(\d+)\.", name)
    return match[1] if match else ""
