"""Tensors under our names to tensors that fit a model: reshaped, adapted to its input, or left out.

In: a checkpoint's tensors and the model. Out: what to copy, and lists of what was adapted, left fresh or left out.
What does not fit is collected, not raised, so that one message can name all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt, prod
from typing import Any

import torch
from torch import Tensor, nn

from ..model.classifier import FIRST_CONV, LAST_LAYER
from ..model.dense.build import TIED
from ..model.embed import Position
from ..model.mixers.attention import RelativePosition
from ..spec.dense import DenseSpec
from ..types import Grid

POSITION = "position.table"
COUNTER = ".num_batches_tracked"
"""A batch norm's count of updates, which no prediction reads; old files lack it."""


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
    _note_fresh(found, wanted, last_layers(model), result)
    known = {*found, *result.fresh}
    result.missing = [name for name in wanted if name not in known and not name.endswith(COUNTER)]
    return result


def last_layers(model: nn.Module) -> tuple[str, ...]:
    """What the names of the layers begin with whose shape depends on the classes: several in a detector."""
    several = getattr(model, "last_layers", None)
    return tuple(f"{name}." for name in several or (getattr(model, "last_layer", LAST_LAYER),))


def first_conv(model: nn.Module) -> str:
    """The name of the kernel that sees the image."""
    return f"{getattr(model, 'first_conv', FIRST_CONV)}.weight"


def _fit_one(name: str, tensor: Tensor, wanted: Tensor, model: nn.Module, result: Fitting) -> None:
    same = _reshaped(tensor, wanted.shape)
    if same is not None:
        result.tensors[name] = same
    elif name.startswith(last_layers(model)) and tensor.shape[1:] == wanted.shape[1:]:
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
    """The same numbers in another shape where only axes of size 1 differ: (out, in, 1, 1) and (out, in), or (1, 1, C)
    and (C)."""
    if tensor.shape == shape:
        return tensor
    return tensor.reshape(shape) if _thick(tensor.shape) == _thick(shape) else None


def _thick(shape: torch.Size) -> list[int]:
    return [size for size in shape if size != 1]


def for_channels(kernel: Tensor, channels: int) -> Tensor:
    """A first convolution (out, in, k, k) for images of other channels, answering alike to the same brightness.

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
    last = last_layers(model)
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


def _note_fresh(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], start: tuple[str, ...], result: Fitting
) -> None:
    """The last layers stay fresh as a whole, also where the checkpoint has none (it was saved without classes)."""
    last = [name for name in wanted if name.startswith(start)]
    if result.fresh or not any(name.startswith(start) for name in found):
        result.fresh = last
        for name in last:
            result.tensors.pop(name, None)


def _misfit(name: str, tensor: Tensor, wanted: Tensor, model: nn.Module) -> str:
    sentence = f"{name} is {tuple(tensor.shape)} in the checkpoint and {tuple(wanted.shape)} in the model"
    reason = _reason(name, tensor, wanted, model)
    return f"{sentence} ({reason})" if reason else sentence


def _reason(name: str, tensor: Tensor, wanted: Tensor, model: nn.Module) -> str:
    """Why two shapes differ and what to do, where a tensor is tied to patches, to a grid or to a window."""
    if name == first_conv(model) and tensor.ndim == wanted.ndim == 4 and tensor.shape[2:] != wanted.shape[2:]:
        there, here = (f"{shape[2]}×{shape[3]}" for shape in (tensor.shape, wanted.shape))
        return f"made for patches of {there} pixels, the model's are {here}: kernels are not resampled"
    mixer, axis = _tied(name, model)
    if mixer is None or axis >= tensor.ndim or tensor.shape[axis] == wanted.shape[axis]:
        return ""
    if ".mixer.mixer." in name:
        return _of_window(tensor.shape[axis], mixer)
    return _of_grid(tensor.shape[axis] - wanted.shape[axis] + prod(mixer.grid), name, model)


def _tied(name: str, model: nn.Module) -> tuple[Any, int]:
    """The part of a mixer that a tensor ties to the grid it is built for, and the axis of its positions."""
    for words in (1, 2):
        path, leaf = name.split(".")[:-words], ".".join(name.split(".")[-words:])
        part = model.get_submodule(".".join(path))
        for kind, axes in TIED.items():
            if isinstance(part, kind) and leaf in axes:
                return part, axes[leaf]
    return None, 0


def _of_window(positions: int, mixer: Any) -> str:
    relative = isinstance(mixer, RelativePosition)
    side = (isqrt(positions) + 1) // 2 if relative else isqrt(positions)
    return (
        f"made for windows of {side}×{side} tokens, the model's are {'×'.join(map(str, mixer.grid))}: a "
        f"{'table' if relative else 'matrix'} over a window cannot be resampled; give the model's mixers "
        f"window={side}"
    )


def _of_grid(positions: int, name: str, model: nn.Module) -> str:
    if not _is_square(positions):
        return "a matrix over a fixed grid cannot be resampled: build the model for the images it was trained with"
    side = isqrt(positions)
    sentence = f"a matrix over a fixed grid of {side}×{side} tokens cannot be resampled"
    spec = getattr(model, "spec", None)
    if spec is None:
        return sentence
    if isinstance(spec, DenseSpec):
        return f"{sentence}: build the model with square=True, short_side={_pixels(side, name, spec.backbone)}"
    return f"{sentence}: build the model with img_size={_pixels(side, name, spec)}"


def _pixels(side: int, name: str, spec: Any) -> int:
    words = name.split(".")
    return side * spec.reductions()[int(words[words.index("stages") + 1])]
