"""Kernels or PyTorch? Both are timed for every kind of block at its shapes on this GPU, and the faster one is kept.

    choice = choose(model, images)     # a batch as the model will see it
    print(choice)                      # what was measured
    choice.model(images)               # a copy of the model, each block on its faster path

A block's paths run in turns, timed by the device's own clock, so that other load affects all of them. A ratio is the
median over the rounds of (plain time / path's time). Before timing, a path's output must equal the plain block's, with
LayerScale at one: at its initial 1e-5 an error in the branch would not show. A model in training mode is measured with
its backward pass.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from metaformer.model.layers import Scale
from metaformer.model.lean.blocks import LeanBlock, Path, with_lean_blocks
from metaformer.model.lean.operations import statistics as statistics_of
from metaformer.types import Grid

from .registration import register

Module = TypeVar("Module", bound=nn.Module)
CALLS = 5
"""Calls between two readings of the clock."""
FUSED_WIDTH = 128
"""The widest tokens for which both products of the MLP fit into one program."""


@dataclass(frozen=True)
class Measured:
    """One kind of block at one shape."""

    blocks: tuple[str, ...]
    """Names of these blocks in the model."""
    shape: tuple[int, ...]
    """(B, N, C) of the tokens."""
    milliseconds: Mapping[Path, float]
    """Median time of a call."""
    ratios: Mapping[Path, float]
    """Median of plain time / this path's time: above 1 it is faster than the plain block."""
    path: Path
    """The fastest path, which is kept."""
    refused: Mapping[Path, str]
    """Paths that failed or whose output differs from the plain block's, with the reason."""

    def __str__(self) -> str:
        figures = ", ".join(f"{path} {ratio:.2f}x" for path, ratio in self.ratios.items() if path != "plain")
        problems = "".join(f"; {path} refused: {why}" for path, why in self.refused.items())
        return (
            f"{len(self.blocks)} blocks with tokens {self.shape}: {figures or 'no other path'}{problems}; {self.path}"
        )


@dataclass(frozen=True)
class Choice:
    """A model with the fastest path of each block, and the measurement."""

    model: nn.Module
    """A copy; the original is not changed."""
    measured: tuple[Measured, ...]
    """Empty if no measurement was possible."""
    note: str
    """One sentence: how many blocks run on kernels, or why none was measured."""

    def __str__(self) -> str:
        return "\n".join([self.note, *map(str, self.measured)])


@dataclass
class _Kind:
    """Blocks of the same parts and shapes, with the input of one of them."""

    blocks: dict[str, LeanBlock]
    tokens: Tensor
    grid: Grid


def choose(model: nn.Module, images: Tensor, rounds: int = 15, warm_up: int = 3) -> Choice:
    """Register the kernels, time each block's paths at the shapes of these images, and keep the fastest.

    Args:
        model: any model, on a CUDA device; blocks that lean blocks cannot replace stay as they are.
        images: an input of the model on the same device and of the same type as later.
        rounds: how often each path is timed.
        warm_up: rounds before them that are not counted; the first compiles and tunes the kernels.
    """
    fast = with_lean_blocks(model)
    blocks = {name: part for name, part in fast.named_modules() if isinstance(part, LeanBlock)}
    reason = _obstacle(blocks, images)
    if reason:
        for block in blocks.values():
            block.path = "plain"
        return Choice(fast, (), f"{reason}; every block runs on PyTorch.")
    register()
    measured = tuple(_measured(kind, rounds, warm_up) for kind in _kinds(fast, blocks, images))
    count = sum(len(row.blocks) for row in measured if row.path != "plain")
    device = torch.cuda.get_device_name(images.device)
    return Choice(fast, measured, f"{count} of {len(blocks)} blocks are faster on kernels, measured on {device}.")


def _obstacle(blocks: Mapping[str, LeanBlock], images: Tensor) -> str:
    """Why no measurement is possible; empty if one is."""
    if not blocks:
        return "This model has no block that the kernels compute"
    return "" if images.is_cuda else "The kernels need a CUDA device, but the images are on the CPU"


def _kinds(model: nn.Module, blocks: Mapping[str, LeanBlock], images: Tensor) -> list[_Kind]:
    """Run the images through the model once and group the blocks by their parts and inputs."""
    kinds: dict[object, _Kind] = {}

    def listener(name: str) -> Callable[[nn.Module, tuple[Tensor, Grid]], None]:
        def note(block: nn.Module, inputs: tuple[Tensor, Grid]) -> None:
            tokens, grid = inputs[:2]
            parameters = tuple((key, value.shape, value.dtype) for key, value in block.named_parameters())
            key = (tokens.shape, tokens.dtype, tuple(grid), parameters, f"{block.mixer}{block.mlp.act}")  # type: ignore[union-attr]
            kind = kinds.setdefault(key, _Kind({}, tokens.detach(), tuple(grid)))
            kind.blocks[name] = blocks[name]

        return note

    hooks = [block.register_forward_pre_hook(listener(name)) for name, block in blocks.items()]
    was_training = model.training
    for block in blocks.values():
        block.path = "plain"
    with torch.no_grad():
        model.eval()(images)
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return list(kinds.values())


def _measured(kind: _Kind, rounds: int, warm_up: int) -> Measured:
    """Time the paths of one kind of block and set all its blocks to the fastest."""
    block = next(iter(kind.blocks.values()))
    calls, refused = _calls(kind, block)
    times: dict[Path, list[float]] = {path: [] for path in calls}
    order = list(calls)
    for turn in range(warm_up + rounds):
        for path in order if turn % 2 else order[::-1]:
            block.path = path
            spent = _milliseconds(calls[path])
            if turn >= warm_up:
                times[path].append(spent)
    for parameter in block.parameters():
        parameter.grad = None
    ratios = median_ratios(times)
    best = max(ratios, key=lambda path: ratios[path])
    for other in kind.blocks.values():
        other.path = best
    medians = {path: statistics.median(spent) for path, spent in times.items()}
    return Measured(tuple(kind.blocks), tuple(kind.tokens.shape), medians, ratios, best, refused)


def paths(block: LeanBlock) -> tuple[Path, ...]:
    """The paths that are timed for a block."""
    narrow = block.norm2.weight.numel() <= FUSED_WIDTH
    return ("plain", "lean", "fused") if narrow else ("plain", "lean")


def median_ratios(times: Mapping[Path, Sequence[float]]) -> dict[Path, float]:
    """For every path the median over the rounds of plain time / its time; plain has 1."""
    return {
        path: statistics.median(plain / own for plain, own in zip(times["plain"], spent, strict=True))
        for path, spent in times.items()
    }


def _calls(kind: _Kind, block: LeanBlock) -> tuple[dict[Path, Callable[[], object]], dict[Path, str]]:
    """One call per path whose output equals the plain one's, and the reasons against the other paths."""
    tokens = kind.tokens.clone().requires_grad_(block.training)
    stats = statistics_of(tokens, block.norm1.eps)
    towards = torch.randn_like(tokens)

    def run() -> Tensor:
        if not block.training:
            with torch.no_grad():
                return block.with_statistics(tokens, kind.grid, stats=stats)[0]
        # All blocks of a stage but the first receive the statistics of their input.
        result = block.with_statistics(tokens, kind.grid, stats=stats)[0]
        result.backward(towards.to(result.dtype))
        tokens.grad = None
        return result.detach()

    calls: dict[Path, Callable[[], object]] = {}
    refused: dict[Path, str] = {}
    witness = with_unit_scales(block).eval()
    expected: Tensor | None = None
    for path in paths(block):
        block.path = witness.path = path
        try:
            with torch.no_grad():
                result = witness(kind.tokens, kind.grid).float()
            run()
        except Exception as error:  # a compiler can fail in many ways, and the plain block is always there
            if path == "plain":
                raise
            refused[path] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        expected = result if expected is None else expected
        difference = ((result - expected).abs().max() / expected.abs().max()).item()
        if difference <= _tolerance(tokens):
            calls[path] = run
        else:
            refused[path] = f"differs from the plain block by {difference:.1e} of its largest value"
    return calls, refused


def with_unit_scales(model: Module) -> Module:
    """A copy with every LayerScale and ResScale at one: a LayerScale of 1e-5 would hide any mistake in its branch."""
    model = deepcopy(model)
    for part in model.modules():
        if isinstance(part, Scale):
            nn.init.ones_(part.scale)
    return model


def _tolerance(tokens: Tensor) -> float:
    """How far two paths may differ: a few roundings in the type of the products."""
    kind = tokens.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tokens.dtype
    if dtype == torch.float32:
        return 1e-4 if torch.get_float32_matmul_precision() == "highest" else 5e-3
    return 4 * torch.finfo(dtype).eps


def _milliseconds(call: Callable[[], object]) -> float:
    """Time of a call on the device, the mean of a few in a row."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(CALLS):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / CALLS
