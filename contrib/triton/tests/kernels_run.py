"""The kernels themselves against the formulas in float64: in Triton's interpreter on the CPU, or on a GPU.

Collected by ``test_kernels_run.py`` alone, in a process of its own: ``TRITON_INTERPRET=1`` has to stand before Triton
is imported and changes it for good. The interpreter takes fixed small tiles (``tuning.tiles``), so most sizes here have
several of them and ragged edges.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from metaformer_triton import mlp, mlp_gradients, moments, register, stencil, tuning
from torch import Tensor, nn

from metaformer.model.block import Block, Branch
from metaformer.model.layers import ChannelMLP, GroupNorm, Scale, StarReLU
from metaformer.model.lean import formulas
from metaformer.model.lean.blocks import LeanBlock, with_lean_blocks
from metaformer.model.lean.formulas import MLPWeights, PoolingWeights, Statistics
from metaformer.model.lean.operations import kernels_for, normalized_mlp, pooling_residual, statistics
from metaformer.model.mixers.pooling import Pooling

EXACT = 1e-5
"""Relative to the largest value, float32."""


DEVICE = os.environ.get("KERNELS_ON", "cpu")

register()


@pytest.fixture(autouse=True)
def _on_the_device() -> Iterator[None]:
    with torch.device(DEVICE):
        yield


def double(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.double()


def assert_close(mine: Tensor | None, theirs: Tensor | None, bound: float = EXACT) -> None:
    assert (mine is None) == (theirs is None)
    if mine is not None and theirs is not None:
        assert mine.shape == theirs.shape
        difference = ((mine.double() - theirs.double()).abs().max() / theirs.abs().max()).item()
        assert difference < bound, f"relative difference {difference:.1e}"


def test_pooling_the_kernels_are_what_runs() -> None:
    assert (DEVICE == "cpu") == tuning.INTERPRETED
    assert kernels_for(torch.randn(1, 2, 3)) is not None
    assert kernels_for(torch.randn(1, 2, 3, dtype=torch.float64)) is None


@pytest.mark.parametrize("shift", [0.0, 3e3])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (2, 37, 131)], ids=str)
def test_pooling_statistics_do_not_cancel(shape: tuple[int, ...], shift: float) -> None:
    """A mean of 3000 deviations leaves the deviation right; E[x²] - E[x]² in float32 would keep no digit of it."""
    x = torch.randn(shape) + shift
    theirs = formulas.statistics(x.double(), 1e-5)
    mine = moments.statistics(x, 1e-5)
    assert_close(mine.mean, theirs.mean, 1e-6)
    assert_close(mine.rstd, theirs.rstd)


def pooling_case(samples: int, tokens: int, width: int, parts: bool) -> tuple[Tensor, PoolingWeights, Tensor | None]:
    weights = PoolingWeights(*(torch.randn(width) if i == 0 or parts else None for i in range(3)))  # type: ignore[arg-type]
    return torch.randn(samples, tokens, width) * 2 + 1, weights, torch.tensor([0.0, 1.25]) if parts else None


@pytest.mark.parametrize(
    ("grid", "width", "kernel", "parts"),
    [
        ((5, 7), 40, 3, True),
        ((4, 3), 33, 5, False),
        ((1, 9), 96, 3, False),
        ((3, 3), 320, 3, True),
        ((2, 2), 8, 5, True),
    ],
)
def test_pooling_forwards_and_backwards(grid: tuple[int, int], width: int, kernel: int, parts: bool) -> None:
    x, weights, keep = pooling_case(2, grid[0] * grid[1], width, parts)
    exact = (PoolingWeights(*map(double, weights)), formulas.statistics(x.double(), 1e-5), double(keep), grid, kernel)  # type: ignore[arg-type]
    stats = moments.statistics(x, 1e-5)
    y, after = stencil.pooling_residual(x, weights, stats, keep, grid, kernel, x.dtype, 1e-6)
    expected = formulas.pooling_residual(x.double(), *exact)
    assert_close(y, expected)
    for mine, theirs in zip(after, formulas.statistics(expected, 1e-6), strict=True):
        assert_close(mine, theirs)
    g = torch.randn_like(x)
    found = stencil.pooling_residual_gradients(g, x, weights, stats, keep, grid, kernel)
    for mine, theirs in zip(found, formulas.pooling_residual_gradients(g.double(), x.double(), *exact), strict=True):
        assert_close(mine, theirs)


def test_pooling_a_large_mean_costs_no_digit_of_the_gradient() -> None:
    grid = (5, 7)
    x, weights, keep = torch.randn(2, 35, 40) + 1000, PoolingWeights(torch.randn(40), torch.randn(40), None), None
    exact = (PoolingWeights(*map(double, weights)), formulas.statistics(x.double(), 1e-5), None, grid, 3)  # type: ignore[arg-type]
    g = torch.randn_like(x)
    found = stencil.pooling_residual_gradients(g, x, weights, moments.statistics(x, 1e-5), keep, grid, 3)
    for mine, theirs in zip(found, formulas.pooling_residual_gradients(g.double(), x.double(), *exact), strict=True):
        assert_close(mine, theirs, 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pooling_in_half_precision(dtype: torch.dtype) -> None:
    x, weights, _ = pooling_case(2, 35, 40, True)
    x, weights = x.to(dtype), PoolingWeights(*(part.to(dtype) for part in weights))  # type: ignore[union-attr]
    y, after = pooling_residual(x, (5, 7), *weights[:1], None, *weights[1:])
    assert y.dtype == dtype
    exact = (PoolingWeights(*map(double, weights)), formulas.statistics(x.double(), 1e-5), None, (5, 7), 3)  # type: ignore[arg-type]
    assert_close(y, formulas.pooling_residual(x.double(), *exact), 2 * torch.finfo(dtype).eps)
    for mine, theirs in zip(after, formulas.statistics(y.double(), 1e-5), strict=True):
        assert_close(mine, theirs)


def mlp_case(width: int, inner: int, star: bool, parts: bool) -> tuple[Tensor, MLPWeights, Tensor | None]:
    """Tokens that a tile of rows shares between samples, and weights that keep the size of the signal."""

    def part(*shape: int) -> Tensor | None:
        return torch.randn(*shape) if parts else None

    weights = MLPWeights(
        weight=torch.randn(width),
        bias=part(width),
        fc1_weight=torch.randn(inner, width) * width**-0.5,
        fc1_bias=part(inner),
        fc2_weight=torch.randn(width, inner) * inner**-0.5,
        fc2_bias=part(width),
        scale=part(width),
        skip=part(width),
        star_scale=torch.randn(1) if star else None,
        star_bias=torch.randn(1) if star else None,
    )
    keep = torch.tensor([0.0, 1.25, 1.25]) if parts else None
    return torch.randn(3, 21, width) * 2 + 1, weights, keep


def exact_gradients(g: Tensor, x: Tensor, rest: tuple[MLPWeights, Statistics, Tensor]) -> formulas.MLPGradients:
    """The formulas' in float64."""
    _, before = formulas.normalized_mlp(x.double(), *rest)
    return formulas.normalized_mlp_gradients(g.double(), x.double(), before, *rest)


def exactly(x: Tensor, weights: MLPWeights, keep: Tensor | None) -> tuple[MLPWeights, Statistics, Tensor | None]:
    return MLPWeights(*map(double, weights)), formulas.statistics(x.double(), 1e-5), double(keep)  # type: ignore[arg-type]


CASES = [(40, 56, False, True), (33, 47, True, False), (8, 96, True, True), (96, 20, False, False)]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("width", "inner", "star", "parts"), CASES)
def test_mlp_forwards(width: int, inner: int, star: bool, parts: bool, fused: bool) -> None:
    x, weights, keep = mlp_case(width, inner, star, parts)
    stats = moments.statistics(x, 1e-5)
    y, after = mlp.normalized_mlp(x, weights, stats, keep, x.dtype, 1e-6, x.dtype, fused)
    expected = formulas.normalized_mlp(x.double(), *exactly(x, weights, keep))[0]
    assert_close(y, expected)
    for mine, theirs in zip(after, formulas.statistics(expected, 1e-6), strict=True):
        assert_close(mine, theirs)


@pytest.mark.parametrize(("width", "inner", "star", "parts"), CASES)
def test_mlp_backwards(width: int, inner: int, star: bool, parts: bool) -> None:
    x, weights, keep = mlp_case(width, inner, star, parts)
    g = torch.randn_like(x)
    found = mlp_gradients.normalized_mlp_gradients(g, x, weights, moments.statistics(x, 1e-5), keep, x.dtype)
    expected = exact_gradients(g, x, exactly(x, weights, keep))
    assert_close(found.x, expected.x)
    for mine, theirs in zip(found.weights, expected.weights, strict=True):
        assert_close(mine, theirs)


def test_mlp_width_320_of_poolformers_third_stage() -> None:
    x, weights, keep = mlp_case(320, 64, False, True)
    y, _ = normalized_mlp(x, weights, keep=keep)
    assert_close(y, formulas.normalized_mlp(x.double(), *exactly(x, weights, keep))[0])


@pytest.mark.parametrize("fused", [False, True])
def test_mlp_rounds_after_the_mean_is_gone(fused: bool) -> None:
    """float32 tokens in float16 products, as under autocast: a mean of 100 deviations must not eat the digits."""
    x, weights, keep = mlp_case(40, 56, False, True)
    x = x + 200
    stats, g = moments.statistics(x, 1e-5), torch.randn_like(x)
    y, _ = mlp.normalized_mlp(x, weights, stats, keep, x.dtype, 1e-5, torch.float16, fused)
    exact = exactly(x, weights, keep)
    branch = formulas.scaled(x.double(), exact[0].skip)
    assert_close(y - branch, formulas.normalized_mlp(x.double(), *exact)[0] - branch, 4e-3)
    found = mlp_gradients.normalized_mlp_gradients(g, x, weights, stats, keep, torch.float16)
    expected = exact_gradients(g, x, exact)
    assert_close(found.x, expected.x, 4e-3)
    for mine, theirs in zip(found.weights, expected.weights, strict=True):
        assert_close(mine, theirs, 8e-3)


def test_mlp_half_precision_tokens() -> None:
    x, weights, keep = mlp_case(40, 56, True, True)
    x, weights = x.half(), MLPWeights(*(None if part is None else part.half() for part in weights))  # type: ignore[arg-type]
    y, _ = normalized_mlp(x, weights, keep=keep)
    assert y.dtype == torch.float16
    assert_close(y, formulas.normalized_mlp(x.double(), *exactly(x, weights, keep))[0], 4e-3)


def block_of(width: int, star: bool) -> Block:
    """A plain block at random weights, LayerScale or ResScale."""
    mlp = ChannelMLP(width, 2 * width, StarReLU() if star else nn.GELU(), bias=not star)
    scales = {key: Scale(width, 1.0) for key in ("skip1", "skip2", "branch1", "branch2")}
    block = Block(
        norm1=GroupNorm(width, bias=not star),
        mixer=Pooling(width),
        branch1=Branch() if star else Branch(scales["branch1"]),
        skip1=scales["skip1"] if star else nn.Identity(),
        out_norm1=nn.Identity(),
        norm2=GroupNorm(width, bias=not star),
        mlp=mlp,
        branch2=Branch() if star else Branch(scales["branch2"]),
        skip2=scales["skip2"] if star else nn.Identity(),
        out_norm2=nn.Identity(),
    )
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return block


@pytest.mark.parametrize("path", ["lean", "fused"])
@pytest.mark.parametrize("star", [False, True])
def test_mlp_whole_block_trains_as_the_plain_one(star: bool, path: str) -> None:
    block = block_of(24, star)
    fast = with_lean_blocks(block)
    assert isinstance(fast, LeanBlock)
    fast.path = path  # type: ignore[assignment]
    x = torch.randn(2, 6, 24, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    y, expected = fast(x, (2, 3)), block(other, (2, 3))
    assert_close(y, expected)
    g = torch.randn_like(y)
    y.backward(g)
    expected.backward(g)
    assert_close(x.grad, other.grad)
    for (name, mine), theirs in zip(fast.named_parameters(), block.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        if name == "norm1.bias":  # cancels: exactly zero here, rounding there
            assert not mine.grad.any()
            assert theirs.grad.abs().max() < 1e-3
        else:
            assert_close(mine.grad, theirs.grad)


def test_mlp_results_repeat_to_the_bit() -> None:
    x, weights, keep = mlp_case(40, 56, True, True)
    stats = statistics(x)
    g = torch.randn_like(x)
    first, again = (mlp_gradients.normalized_mlp_gradients(g, x, weights, stats, keep, x.dtype) for _ in range(2))
    assert torch.equal(first.x, again.x)
    for one, two in zip(first.weights, again.weights, strict=True):
        assert one is None or torch.equal(one, two)
