"""A model's weights in the names and shapes of another library: the inverse of loading.

In: a model. Out: a state dict that the named library loads strictly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor, nn

from ..errors import WeightsError, did_you_mean
from ..model.embed import Position
from ..model.timm_cnn import PREFIX, TimmClassifier
from .layouts import LAYOUTS, Layout
from .naming import their_names

SECOND_PAPER = re.compile(r"\.(embed\.p(re|ost)_norm|skip[12])\.")
_STAGE = re.compile(r"backbone\.stages\.(\d+)\.")


def to_layout(model: nn.Module, layout: str) -> dict[str, Tensor]:
    """A model's state dict as another library lays it out.

    Args:
        model: the model.
        layout: ``official`` (of the paper the model comes from), ``official-v1``, ``official-v2``, ``timm``,
            ``huggingface``, ``mmpretrain`` or ``metaformer``.

    Raises:
        WeightsError: no such layout, or the layout has no name for a part of this model.
    """
    state = model.state_dict()
    if layout == "timm" and isinstance(model, TimmClassifier):
        return {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    chosen = _chosen(layout, state)
    attention = {_stage(name) for name in state if ".mixer.qkv." in name}
    return {
        theirs: _shaped(model, ours, state[ours], chosen, attention)
        for ours, theirs in their_names(chosen, state).items()
    }


def _chosen(layout: str, names: Iterable[str]) -> Layout:
    if layout == "official":
        second = any(SECOND_PAPER.search(name) for name in names)
        layout = "official-v2" if second else "official-v1"
    known = {known.name: known for known in LAYOUTS}
    if layout not in known:
        raise WeightsError(f"unknown layout {layout!r}. {did_you_mean(layout, ['official', *known])}")
    return known[layout]


def _shaped(model: nn.Module, name: str, tensor: Tensor, layout: Layout, attention: set[str]) -> Tensor:
    if layout.name == "metaformer":
        return tensor
    if name.endswith("position.table"):
        position = model.get_submodule(name.removesuffix(".table"))
        assert isinstance(position, Position)
        return tensor.transpose(1, 2).reshape(1, -1, *position.grid)
    here = layout.kernels_beside_attention or _stage(name) not in attention
    if here and layout.kernels is not None and re.search(layout.kernels, name):
        return tensor[:, :, None, None]
    return tensor


def _stage(name: str) -> str:
    match = _STAGE.match(name)
    return match[1] if match else ""
