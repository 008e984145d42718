"""Tensors under our names to tensors that fit a model: reshaped, adapted to its input, or left out.

In: a checkpoint's tensors and the model. Out: what to copy, and lists of what was adapted, left fresh or left out.
What does not fit is collected, not raised, so that one message can name all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt, prod

import torch
from torch import Tensor, nn

from ..model.embed import Position
from ..types import Grid

LAST_LAYER = "head.fc"
FIRST_CONV = "backbone.stages.0.embed.conv"
POSITION = "position.table"
COUNTER = ".num_batches_tracked"
"""A batch norm's count of updates, which no prediction reads; old files lack it."""
GRID_MATRICES = ("mixer.matrix", "mixer.fc.weight", "mixer.fc.bias")


@dataclass
class Fitting:
    """What became of a checkpoint's tensors against one model."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    """To copy, by our names."""
    adapted: list[str] = field(default_factory=list)
    """Sentences about tensors that were changed to fit."""
    fresh: list[str] = field(default_factory=list)
    """Names that keep their initial values: the last layer for other classes."""
    left_out: list[str] = field(default_factory=list)
    """Names of the checkpoint that the model has no use for: the head, or stages behind its last one."""
    misshapen: list[str] = field(default_factory=list)
    """Sentences about tensors of another shape."""
    missing: list[str] = field(default_factory=list)
    """Names of the model that the checkpoint lacks."""
    unexpected: list[str] = field(default_factory=list)
    """Names of the checkpoint that the model lacks."""

    @property
    def fits(self) -> bool:
        """Whether every tensor found its place."""
        return not (self.misshapen or self.missing or self.unexpected)


def fit(found: Mapping[str, Tensor], model: nn.Module) -> Fitting:
    """Sort a checkpoint's tensors by what the model makes of them."""
    wanted = model.state_dict()
    result = Fitting()
    for name, tensor in found.items():
        if name in wanted:
            _fit_one(name, tensor, wanted[name], model, result)
        elif _is_left_out(name, wanted, model):
            result.left_out.append(name)
        else:
            result.unexpected.append(name)
    _note_fresh(found, wanted, last_layer(model), result)
    known = {*found, *result.fresh}
    result.missing = [name for name in wanted if name not in known and not name.endswith(COUNTER)]
    return result


def last_layer(model: nn.Module) -> str:
    """What the names of a model's last layer begin with."""
    return f"{getattr(model, 'last_layer', LAST_LAYER)}."


def first_conv(model: nn.Module) -> str:
    """The name of the kernel that sees the picture."""
    return f"{getattr(model, 'first_conv', FIRST_CONV)}.weight"


def _fit_one(name: str, tensor: Tensor, wanted: Tensor, model: nn.Module, result: Fitting) -> None:
    same = _reshaped(tensor, wanted.shape)
    if same is not None:
        result.tensors[name] = same
    elif name.startswith(last_layer(model)) and tensor.shape[1:] == wanted.shape[1:]:
        result.fresh.append(name)
    elif name == first_conv(model) and tensor.ndim == 4 and _but_channels(tensor) == _but_channels(wanted):
        result.tensors[name] = for_channels(tensor, wanted.shape[1])
        result.adapted.append(f"the first convolution from {tensor.shape[1]} to {wanted.shape[1]} channels")
    elif name.endswith(POSITION) and (table := _for_grid(tensor, _position(model, name))) is not None:
        result.tensors[name] = table
        if table.numel() != tensor.numel():
            result.adapted.append(f"{name} from {_positions(tensor)} to {table.shape[1]} positions")
    else:
        result.misshapen.append(_misfit(name, tensor, wanted, model))


def _reshaped(tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """The same numbers in another shape where only 1 × 1 windows differ: (out, in, 1, 1) and (out, in)."""
    if tensor.shape == shape:
        return tensor
    longer, shorter = (tensor.shape, shape) if tensor.ndim > len(shape) else (shape, tensor.shape)
    if len(longer) == 4 and len(shorter) == 2 and longer == (*shorter, 1, 1):
        return tensor.reshape(shape)
    return None


def for_channels(kernel: Tensor, channels: int) -> Tensor:
    """A first convolution (out, in, k, k) for pictures of other channels, answering alike to the same brightness.

    One channel gets the sum over the published ones; more channels repeat them, scaled so that the total stays.
    """
    if channels == 1:
        return kernel.sum(1, keepdim=True)
    order = [k % kernel.shape[1] for k in range(channels)]
    return kernel[:, order] * (kernel.shape[1] / channels)


def _but_channels(kernel: Tensor) -> tuple[int, ...]:
    return (kernel.shape[0], *kernel.shape[2:])


def _position(model: nn.Module, name: str) -> Position | None:
    part = model.get_submodule(name.removesuffix(".table"))
    return part if isinstance(part, Position) else None


def _for_grid(table: Tensor, position: Position | None) -> Tensor | None:
    """A position table, (1, C, H, W) or (1, P + N, C) of a square grid, for the positions of a model."""
    if position is None:
        return None
    prefix, width = position.prefix_tokens, position.table.shape[2]
    if table.ndim == 4 and table.shape[:2] == (1, width) and prefix == 0:
        grid: Grid = (table.shape[2], table.shape[3])
        table = table.permute(0, 2, 3, 1).reshape(1, prod(grid), width)
    elif table.ndim == 3 and table.shape[2] == width and _is_square(table.shape[1] - prefix):
        side = isqrt(table.shape[1] - prefix)
        grid = (side, side)
    else:
        return None
    if grid == position.grid:
        return table
    source = Position(width, grid=grid, prefix_tokens=prefix, resampling=position.resampling)
    with torch.no_grad():
        source.table.copy_(table)
        return source.resampled(position.grid)


def _is_square(count: int) -> bool:
    return count > 0 and isqrt(count) ** 2 == count


def _positions(table: Tensor) -> int:
    return prod(table.shape[2:]) if table.ndim == 4 else table.shape[1]


def _is_left_out(name: str, wanted: Mapping[str, Tensor], model: nn.Module) -> bool:
    """A head for a model without one, or a stage (a block) behind the last that a feature extractor keeps."""
    last = last_layer(model)
    if name.startswith(last):
        return not any(other.startswith(last) for other in wanted)
    if name in getattr(model, "pruned", ()):
        return True
    if name.startswith("head."):
        part = name.removeprefix("head.").split(".")[0]
        ends_early = not any(other.startswith(last) for other in wanted)
        return ends_early and not any(other.startswith(f"head.{part}.") for other in wanted)
    by_block = getattr(model, "by_block", False)
    depth = 5 if by_block else 3  # words of backbone.stages.0.blocks.11, or of backbone.stages.3
    kept = {other.split(".")[:depth][-1] for other in wanted if other.startswith("backbone.stages.")}
    headless = not any(other.startswith("head.") for other in wanted)
    return headless and name.startswith("backbone.stages.") and name.split(".")[:depth][-1] not in kept


def _note_fresh(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], start: str, result: Fitting) -> None:
    """The last layer stays fresh as a whole, also where the checkpoint has none (it was saved without classes)."""
    last = [name for name in wanted if name.startswith(start)]
    if result.fresh or not any(name.startswith(start) for name in found):
        result.fresh = last
        for name in last:
            result.tensors.pop(name, None)


def _misfit(name: str, tensor: Tensor, wanted: Tensor, model: nn.Module) -> str:
    sentence = f"{name} is {tuple(tensor.shape)} in the checkpoint and {tuple(wanted.shape)} in the model"
    if not name.endswith(GRID_MATRICES) or not _is_square(tensor.shape[0]):
        return sentence
    side = isqrt(tensor.shape[0])
    advice = f" (a matrix over a fixed grid of {side}×{side} tokens cannot be resampled"
    spec = getattr(model, "spec", None)
    if spec is None:
        return sentence + ")"
    pixels = side * spec.reductions()[int(name.split(".")[2])]
    return f"{sentence}{advice}: build the model with img_size={pixels})"
