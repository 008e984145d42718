"""A model as a graph of plain tensor operations, for engines that do not run Python.

In: a module in evaluation mode that takes images (B, C, H, W). Out: a ``torch.export`` program for any batch size and,
if the model allows it, any height and width.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.nn import functional as F
from torch.utils._sympy.numbers import int_oo

from ...errors import InputError
from ...model.block import Block, MixingBlock
from ...model.build import MIXERS, TIED_TO_GRID
from ...model.embed import Position
from ...model.mixers.fourier import Fourier
from ...model.mixers.window import Window
from ...spec.dense import MULTIPLE, DenseSpec
from ...types import Grid


@dataclass(frozen=True)
class Sizes:
    """Heights and widths that a graph takes, in pixels."""

    fixed: tuple[int, int] | None = None
    """The only size; None if the graph takes any."""
    multiple: int = 1
    """Free sides must be multiples of it."""
    reason: str = ""
    """Why the size is fixed."""

    def check(self, height: int, width: int) -> None:
        """Raise ``InputError`` for images of other sizes."""
        if self.fixed is not None and (height, width) != self.fixed:
            wanted = " × ".join(map(str, self.fixed))
            raise InputError(
                f"images: expected {wanted} pixels, got {height} × {width}: {self.reason}, so the compiled graph takes "
                "this size only. Resize the images, or build the model for them: create_model(..., img_size=...)"
            )
        if height % self.multiple or width % self.multiple:
            raise InputError(
                f"images: expected sides that are multiples of {self.multiple}, got {height} × {width}: pad the "
                "images, as the library's own loaders do"
            )


def sizes_of(model: nn.Module) -> Sizes:
    """Which sizes a graph of this model can take."""
    spec: Any = getattr(model, "spec", None)
    tied = next((part for part in model.modules() if isinstance(part, (*TIED_TO_GRID, Position, Window))), None)
    if isinstance(spec, DenseSpec):
        if spec.square:
            return Sizes(fixed=spec.img_size, reason="the model is built for squares of this side")
        if tied is not None:
            raise InputError(
                f"{type(tied).__name__} is different for each image size, and this model takes any size, which one "
                "graph cannot express. Build the model with square=True, or run it in PyTorch"
            )
        return Sizes(multiple=max(MULTIPLE, *getattr(model, "neck").body.strides))  # noqa: B009 - a module's attribute
    if tied is not None:
        return Sizes(fixed=spec.img_size, reason=f"{type(tied).__name__} is tied to the grid of such images")
    return Sizes()


def example(channels: int, sizes: Sizes, coarsest: int) -> Tensor:
    """Random images (2, C, H, W) to trace with, from a generator of their own.

    ``coarsest`` is the stride of the coarsest map. ``torch.export`` specializes sizes of 1, and takes two equal sizes
    for the same symbol; so every map is at least 2 × 3.
    """
    step = math.lcm(coarsest, sizes.multiple)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, *(sizes.fixed or (2 * step, 3 * step)), generator=generator)


class RealFourier(nn.Module):
    """The Fourier mixer as products with cosines and sines, since engines have no complex numbers.

    Exact, but its cost grows with the square of the tokens, unlike the fast transform's.
    """

    def __init__(self, orthonormal: bool) -> None:
        super().__init__()
        self.orthonormal = orthonormal

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape."""
        (token_cos, token_sin, tokens), (cos, sin, width) = _waves(x.shape[1], x), _waves(x.shape[2], x)
        y = x.float()
        mixed = torch.matmul(token_cos, torch.matmul(y, cos)) - torch.matmul(token_sin, torch.matmul(y, sin))
        return (mixed * (tokens * width).float().rsqrt() if self.orthonormal else mixed).to(x.dtype)


def _waves(count: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines and sines (count, count) of all frequencies at all places, and the count as a tensor (1,).

    The count is a tensor because engines cannot divide by a size. Products of places are reduced modulo the count as
    integers: thousands times 2π in float32 would lose the angle.
    """
    places = torch.arange(count, device=x.device)
    total = places[-1:] + 1
    turns = torch.remainder(places[:, None] * places[None, :], total).float()
    angles = turns * (2 * math.pi / total.float())
    return angles.cos(), angles.sin(), total


def without_complex(module: nn.Module) -> nn.Module:
    """The same module with ``RealFourier`` in place of its Fourier mixers; changed in place."""
    for name, part in list(module.named_modules()):
        if isinstance(part, Fourier):
            module.set_submodule(name, RealFourier(part.orthonormal))
    return module


def traced(
    module: nn.Module, images: Tensor, sizes: Sizes, *, original: nn.Module, plain_attention: bool = False
) -> ExportedProgram:
    """The module as a program.

    Args:
        module: takes images, gives a tensor or a tuple of tensors; in evaluation mode.
        images: an example (B, C, H, W), B at least 2.
        sizes: the sizes that the program must take.
        original: the model before folding, which takes the same images; searched for the module that fails.
        plain_attention: trace attention as products and a softmax.

    Raises:
        InputError: something in it cannot be traced; the message names the module.
    """
    free: dict[int, Any] = {0: Dim.AUTO}
    if sizes.fixed is None:
        step = sizes.multiple
        free |= {2: Dim.AUTO, 3: Dim.AUTO} if step == 1 else {2: step * Dim("rows"), 3: step * Dim("columns")}
    # Masks and offsets are cached by lru_cache; computed during tracing, the cache would keep fake tensors.
    with torch.no_grad():
        module(images)
    try:
        with torch.no_grad(), _quiet(), _plain_attention(plain_attention):
            program = export(module, (images,), dynamic_shapes=(free,), strict=False)
    except Exception as error:  # tracing raises whatever the traced code raises
        raise InputError(_cannot_be_traced(original, images, error)) from error
    _expect_free(program, free, original)
    return program


def _expect_free(program: ExportedProgram, free: dict[int, Any], original: nn.Module) -> None:
    """Refuse a program with fixed sizes: ``int(size)`` makes it a constant silently, ``if size`` keeps one branch."""
    inputs = next(node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs)
    fixed = [axis for axis in free if not _unbounded(program, inputs.shape[axis])]
    if fixed:
        axes = ", ".join({0: "batch", 2: "height", 3: "width"}[axis] for axis in fixed)
        mixers = foreign_mixers(original)
        where = f"; check {', '.join(mixers)}" if mixers else ""
        raise InputError(f"the traced graph is valid for some sizes of {axes} only{where}")


def _unbounded(program: ExportedProgram, size: Any) -> bool:
    """Whether a graph is valid for any larger size. A constant is an int, or a symbolic size without free symbols."""
    unknowns = () if isinstance(size, int) else size.node.expr.free_symbols
    ranges = program.range_constraints
    return bool(unknowns) and all(one not in ranges or ranges[one].upper == int_oo for one in unknowns)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings of the exporter about its internals, and the graphs that it prints when it fails."""
    with redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _plain_attention(on: bool) -> Iterator[None]:
    """Attention as products and a softmax while tracing.

    PyTorch's fused attention returns another memory layout than these operations; torch.onnx, which decomposes it
    later, then fails at views.
    """
    if not on:
        yield
        return
    with patch.object(F, "scaled_dot_product_attention", _attention):
        yield


def _attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.matmul(scores.softmax(-1), v)


def foreign_mixers(module: nn.Module) -> list[str]:
    """Token mixers that are not from this library, as ``place (Class)``."""
    known = tuple(kind for kind in MIXERS.values() if isinstance(kind, type))
    blocks = ((name, part.mixer) for name, part in module.named_modules() if isinstance(part, (Block, MixingBlock)))
    return [f"{name}.mixer ({type(mixer).__name__})" for name, mixer in blocks if not isinstance(mixer, known)]


def _cannot_be_traced(original: nn.Module, images: Tensor, error: Exception) -> str:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    place = _failing_mixer(original, images) or ", ".join(foreign_mixers(original))
    where = f" in {place}" if place else ""
    kind = type(error).__name__
    plain = (
        "its control flow depends on the values of its tokens, which a graph cannot express: "
        if "DataDep" in kind
        else ""
    )
    return f"the model cannot be traced by torch.export{where}: {plain}{kind}: {first}"


def _failing_mixer(module: nn.Module, images: Tensor) -> str | None:
    """The first mixer that cannot be traced by itself, as ``place (Class)``."""
    seen: dict[str, tuple[Any, ...]] = {}
    mixers = {n: p.mixer for n, p in module.named_modules() if isinstance(p, (Block, MixingBlock))}
    hooks = [
        mixer.register_forward_pre_hook(lambda _, given, name=name: seen.setdefault(name, given) and None)
        for name, mixer in mixers.items()
        if isinstance(mixer, nn.Module)
    ]
    try:
        with torch.no_grad():
            module(images)
    finally:
        for hook in hooks:
            hook.remove()
    for name, given in seen.items():
        alone = _Alone(copy.deepcopy(mixers[name]), given[1:])
        try:
            with torch.no_grad(), _quiet():
                export(alone, given[:1], dynamic_shapes=({0: Dim.AUTO},), strict=False)
        except Exception:  # any exception identifies it
            return f"{name}.mixer ({type(mixers[name]).__name__})"
    return None


class _Alone(nn.Module):
    """A mixer as a function of its tokens alone."""

    def __init__(self, mixer: Any, rest: tuple[Any, ...]) -> None:
        super().__init__()
        self.mixer, self.rest = mixer, rest

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to the same shape."""
        return self.mixer(x, *self.rest)
