"""Matches the tensors of a checkpoint with those of a model: which to copy, reshape, adapt or leave out.

In: a checkpoint's tensors under our names, and the model. Out: the tensors to copy, and lists of what was adapted, left
fresh or left out. What does not match is collected, not raised, so that one message can name all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt, prod

import torch
from torch import Tensor, nn

from ..model.build import TIED_TO_GRID
from ..model.classifier import FIRST_CONV, LAST_LAYER
from ..model.embed import Position
from ..model.mixers.attention import RelativePosition
from ..types import Grid

COUNTER = ".num_batches_tracked"
"""A batch norm's count of updates, which no prediction reads; old files lack it."""


@dataclass
class TensorMatch:
    """A checkpoint's tensors against those of one model."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    """To copy, by our names."""
    adapted: list[str] = field(default_factory=list)
    """Sentences about tensors that were changed to fit."""
    fresh: list[str] = field(default_factory=list)
    """Names that keep their initial values: the last layer for other classes."""
    left_out: list[str] = field(default_factory=list)
    """Names of the checkpoint that the model does not need: the head, or stages behind its last one."""
    wrong_shape: list[str] = field(default_factory=list)
    """Sentences about tensors of another shape."""
    missing: list[str] = field(default_factory=list)
    """Names of the model that the checkpoint lacks."""
    unexpected: list[str] = field(default_factory=list)
    """Names of the checkpoint that the model lacks."""

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of both sides is accounted for."""
        return not (self.wrong_shape or self.missing or self.unexpected)


def match_tensors(found: Mapping[str, Tensor], model: nn.Module) -> TensorMatch:
    """Sort the tensors of a checkpoint by what becomes of them in a model; the model itself is not changed."""
    wanted, result = model.state_dict(), TensorMatch()
    for name, tensor in found.items():
        if name in wanted:
            _match_one(name, tensor, wanted[name], model, result)
        elif _is_left_out(name, wanted, model):
            result.left_out.append(name)
        else:
            result.unexpected.append(name)
    last = [name for name in wanted if name.startswith(last_layers(model))]
    if result.fresh or not any(name.startswith(last_layers(model)) for name in found):
        # fresh as a whole, since a bias alone may match; also for a checkpoint that was saved without classes
        result.fresh = last
        for name in last:
            result.tensors.pop(name, None)
    known = {*found, *result.fresh}
    result.missing = [name for name in wanted if name not in known and not name.endswith(COUNTER)]
    return result


def last_layers(model: nn.Module) -> tuple[str, ...]:
    """The prefixes of the layers whose shape depends on the classes: several in a detector."""
    several = getattr(model, "last_layers", None)
    return tuple(f"{name}." for name in several or (getattr(model, "last_layer", LAST_LAYER),))


def first_conv(model: nn.Module) -> str:
    """The name of the kernel that sees the image."""
    return f"{getattr(model, 'first_conv', FIRST_CONV)}.weight"


def without_unit_axes(shape: torch.Size) -> list[int]:
    """A shape without its axes of size 1, which layouts disagree about: (out, in, 1, 1) and (out, in)."""
    return [size for size in shape if size != 1]


def _match_one(name: str, tensor: Tensor, wanted: Tensor, model: nn.Module, result: TensorMatch) -> None:
    if without_unit_axes(tensor.shape) == without_unit_axes(wanted.shape):
        result.tensors[name] = tensor.reshape(wanted.shape)
    elif name.startswith(last_layers(model)) and tensor.shape[1:] == wanted.shape[1:]:
        result.fresh.append(name)
    elif name == first_conv(model) and tensor.ndim == 4 and _but_channels(tensor) == _but_channels(wanted):
        result.tensors[name] = for_channels(tensor, wanted.shape[1])
        result.adapted.append(f"the first convolution from {tensor.shape[1]} to {wanted.shape[1]} channels")
    elif name.endswith("position.table") and (table := _for_grid(name, tensor, model)) is not None:
        result.tensors[name] = table
        if table.numel() != tensor.numel():
            positions = prod(tensor.shape[2:]) if tensor.ndim == 4 else tensor.shape[1]
            result.adapted.append(f"{name} from {positions} to {table.shape[1]} positions")
    else:
        reason = _why_not(name, tensor, wanted, model)
        result.wrong_shape.append(
            f"{name} is {tuple(tensor.shape)} in the checkpoint and {tuple(wanted.shape)} in the model"
            + (f" ({reason})" if reason else "")
        )


def for_channels(kernel: Tensor, channels: int) -> Tensor:
    """A first convolution (out, in, k, k) for images of other channels, with equal outputs for equal brightness.

    One channel gets the sum over the published ones; more channels repeat them, scaled so that the total stays. timm
    adapts its models in the same way.
    """
    if channels == 1:
        return kernel.sum(1, keepdim=True)
    order = [k % kernel.shape[1] for k in range(channels)]
    return kernel[:, order] * (kernel.shape[1] / channels)


def _but_channels(kernel: Tensor) -> tuple[int, ...]:
    return (kernel.shape[0], *kernel.shape[2:])


def _for_grid(name: str, table: Tensor, model: nn.Module) -> Tensor | None:
    """A position table, (1, C, H, W) or (1, P + N, C) of a square grid, resampled to the grid of the model; the first
    rows for a shorter sequence. None for any other shape."""
    position = model.get_submodule(name.removesuffix(".table"))
    if not isinstance(position, Position):
        return None
    prefix, width = position.prefix_tokens, position.table.shape[2]
    if len(position.grid) == 1:
        rows = position.table.shape[1]
        return table[:, :rows] if table.ndim == 3 and table.shape[2] == width and table.shape[1] > rows else None
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


def _is_left_out(name: str, wanted: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Whether the model has no use for a tensor: a head for a model without one, or a stage (a block) behind the last
    one that a feature extractor keeps."""
    last = last_layers(model)
    ends_early = not any(other.startswith(last) for other in wanted)
    if name.startswith(last):
        return ends_early
    if name in getattr(model, "pruned", ()):
        return True
    if name.startswith("head."):  # other parts of the head only go where the model has none of that part either
        part = name.split(".")[1]
        return ends_early and not any(other.startswith(f"head.{part}.") for other in wanted)
    depth = 5 if getattr(model, "by_block", False) else 3  # words of backbone.stages.0.blocks.11, backbone.stages.3
    kept = {other.split(".")[:depth][-1] for other in wanted if other.startswith("backbone.stages.")}
    headless = not any(other.startswith("head.") for other in wanted)
    return headless and name.startswith("backbone.stages.") and name.split(".")[:depth][-1] not in kept


def _why_not(name: str, tensor: Tensor, wanted: Tensor, model: nn.Module) -> str:
    """Why two shapes differ and what to do, where a tensor is tied to patches, to a grid or to a window."""
    if name == first_conv(model) and tensor.ndim == wanted.ndim == 4 and tensor.shape[2:] != wanted.shape[2:]:
        there, here = (f"{shape[2]}×{shape[3]}" for shape in (tensor.shape, wanted.shape))
        return f"made for patches of {there} pixels, the model's are {here}: kernels are not resampled"
    mixer, axis = _tied(name, model)
    if mixer is None or axis >= tensor.ndim or tensor.shape[axis] == wanted.shape[axis]:
        return ""
    grid: Grid = mixer.grid  # type: ignore[assignment]  # every kind in TIED_TO_GRID has one
    if ".mixer.mixer." in name:
        return _other_window(tensor.shape[axis], grid, isinstance(mixer, RelativePosition))
    return _other_grid(tensor.shape[axis] - wanted.shape[axis] + prod(grid), name, model)


def _tied(name: str, model: nn.Module) -> tuple[nn.Module | None, int]:
    """The part of a mixer that a tensor ties to the grid it is built for, and the axis of its positions."""
    words = name.split(".")
    for size in (1, 2):  # words of the tensor's name inside the part: "matrix", or "fc.weight"
        part = model.get_submodule(".".join(words[:-size]))
        axes = next((axes for kind, axes in TIED_TO_GRID.items() if isinstance(part, kind)), {})
        if (leaf := ".".join(words[-size:])) in axes:
            return part, axes[leaf]
    return None, 0


def _other_window(positions: int, grid: Grid, is_table: bool) -> str:
    # a table of relative positions has 2s - 1 entries a side, a matrix over positions has s
    side = (isqrt(positions) + 1) // 2 if is_table else isqrt(positions)
    return (
        f"made for windows of {side}×{side} tokens, the model's are {'×'.join(map(str, grid))}: a "
        f"{'table' if is_table else 'matrix'} over a window cannot be resampled; give the model's mixers window={side}"
    )


def _other_grid(positions: int, name: str, model: nn.Module) -> str:
    if not _is_square(positions):
        return "a matrix over a fixed grid cannot be resampled: build the model for the images it was trained with"
    side = isqrt(positions)
    sentence = f"a matrix over a fixed grid of {side}×{side} tokens cannot be resampled"
    spec = getattr(model, "spec", None)
    if spec is None:
        return sentence
    backbone = getattr(spec, "backbone", None)
    words = name.split(".")
    pixels = side * (backbone or spec).reductions()[int(words[words.index("stages") + 1])]
    size = f"square=True, short_side={pixels}" if backbone else f"img_size={pixels}"
    return f"{sentence}: build the model with {size}"
