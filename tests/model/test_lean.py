"""Lean blocks: their formulas against the plain block in float64, and which blocks of a model they replace."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metaformer import EmbeddingSpec, MixerSpec, ModelSpec, NormSpec, StageSpec
from metaformer.deploy.fold import fold
from metaformer.model.build import build
from metaformer.model.layers import DropPath
from metaformer.model.lean import formulas, operations
from metaformer.model.lean.blocks import LeanBlock, LeanStage, restore_blocks, use_lean_blocks, with_lean_blocks
from metaformer.model.lean.formulas import MLPWeights
from metaformer.model.lean.operations import normalized_mlp, pooling_residual, statistics
from metaformer.model.mixers.pooling import Pooling
from metaformer.spec.model import HeadSpec, MLPSpec, ResidualSpec

GRID = (3, 4)


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


def group_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """PyTorch's own, over tokens."""
    return F.group_norm(x.transpose(1, 2), 1, weight, bias, eps).transpose(1, 2)


def plain_pooling(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, skip: Tensor, keep: Tensor, kernel: int):
    n = group_norm(x, weight, bias, 1e-5)
    return skip * x + keep[:, None, None] * scale * Pooling(x.shape[-1], kernel=kernel)(n, GRID)


def plain_mlp(x: Tensor, w: MLPWeights, keep: Tensor) -> Tensor:
    a = F.linear(group_norm(x, w.weight, w.bias, 1e-6), w.fc1_weight, w.fc1_bias)
    h = F.gelu(a) if w.star_scale is None else w.star_scale * a.relu() ** 2 + w.star_bias
    return w.skip * x + keep[:, None, None] * w.scale * F.linear(h, w.fc2_weight, w.fc2_bias)


def mlp_weights(c: int, j: int, star: bool) -> MLPWeights:
    affine = (doubles(c), doubles(c))
    layers = (doubles(j, c), doubles(j), doubles(c, j), doubles(c))
    star_parts = (doubles(1), doubles(1)) if star else (None, None)
    return MLPWeights(*affine, *layers, doubles(c), doubles(c), *star_parts)


def gradients(y: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad((y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)).sum(), inputs)


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-10 * theirs.abs().max() + 1e-12


@pytest.mark.parametrize("kernel", [3, 5])
def test_pooling_is_the_plain_block_and_its_gradient_autograds(kernel: int) -> None:
    x, *parts = doubles(2, 12, 5), *(doubles(5) for _ in range(4))
    keep = torch.tensor([0.0, 1.25], dtype=torch.float64)
    ours = pooling_residual(x, GRID, *parts, kernel=kernel, keep=keep)[0]
    theirs = plain_pooling(x, *parts, keep, kernel)
    assert_equal(ours, theirs)
    inputs = [x, *parts]
    for mine, other in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        assert_equal(mine, other)


@pytest.mark.parametrize("star", [False, True])
def test_the_mlp_is_the_plain_block_and_its_gradient_autograds(star: bool) -> None:
    x, weights = doubles(2, 12, 5), mlp_weights(5, 7, star)
    keep = torch.tensor([1.25, 0.0], dtype=torch.float64)
    ours = normalized_mlp(x, weights, eps=1e-6, keep=keep)[0]
    theirs = plain_mlp(x, weights, keep)
    assert_equal(ours, theirs)
    inputs = [x, *(part for part in weights if part is not None)]
    for mine, other in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        assert_equal(mine, other)


def test_gradients_against_finite_differences() -> None:
    x, vectors = doubles(2, 6, 2), [doubles(2) for _ in range(4)]
    assert torch.autograd.gradcheck(lambda x, *parts: pooling_residual(x, (2, 3), *parts)[0], (x, *vectors))
    for star in (False, True):
        weights = mlp_weights(2, 3, star)
        present = [part for part in weights if part is not None]

        def mlp(x: Tensor, *parts: Tensor, star: bool = star) -> Tensor:
            return normalized_mlp(x, MLPWeights(*parts) if star else MLPWeights(*parts, None, None))[0]

        assert torch.autograd.gradcheck(mlp, (x, *present))


def test_absent_parts_are_ones_and_zeros() -> None:
    x, weight = doubles(2, 12, 5), doubles(5)
    ones, zeros, keep = torch.ones(5).double(), torch.zeros(5).double(), torch.ones(2).double()
    assert_equal(pooling_residual(x, GRID, weight)[0], plain_pooling(x, weight, zeros, ones, ones, keep, 3))
    first, second = doubles(7, 5), doubles(5, 7)
    bare = MLPWeights(weight, None, first, None, second, None, None, None, None, None)
    full = bare._replace(bias=zeros, fc1_bias=torch.zeros(7).double(), fc2_bias=zeros, scale=ones, skip=ones)
    assert_equal(normalized_mlp(x, bare, eps=1e-6)[0], plain_mlp(x, full, keep))


def test_the_statistics_beside_the_result_are_the_results() -> None:
    x, weight = doubles(2, 12, 5), doubles(5)
    y, after = pooling_residual(x, GRID, weight, next_eps=1e-3)
    for mine, other in zip(after, statistics(y, 1e-3), strict=True):
        assert_equal(mine, other)
    assert not after.rstd.requires_grad
    handed = pooling_residual(y, GRID, weight, eps=1e-3, stats=after)[0]
    assert_equal(handed, pooling_residual(y, GRID, weight, eps=1e-3)[0])


def spec(star: bool = False, **changes: object) -> ModelSpec:
    """Two stages of two blocks: PoolFormer's, or PoolFormerV2's."""
    mlp = MLPSpec(activation="star_relu", bias=False) if star else MLPSpec()
    residual = ResidualSpec(skip_scale=1.0) if star else ResidualSpec(layer_scale=0.1)
    norm = NormSpec(kind="group", bias=not star)
    fields = {"mixer": MixerSpec(name="pooling"), "norm": norm, "mlp": mlp, "residual": residual} | changes
    stages = tuple(
        StageSpec(depth=2, width=width, embedding=EmbeddingSpec(kernel=3, stride=2, padding=1), **fields)
        for width in (12, 20)
    )
    return ModelSpec(stages=stages, head=HeadSpec(norm=norm), num_classes=4, img_size=(18, 22))


def model_of(spec: ModelSpec) -> nn.Module:
    model = build(spec)
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def lean_blocks(model: nn.Module) -> list[LeanBlock]:
    return [part for part in model.modules() if isinstance(part, LeanBlock)]


@pytest.mark.parametrize("star", [False, True])
def test_a_model_with_lean_blocks_is_the_same_function(star: bool) -> None:
    model, images = model_of(spec(star)), torch.randn(3, 3, 18, 22)
    fast = with_lean_blocks(model)
    assert len(lean_blocks(fast)) == 4
    assert fast.state_dict().keys() == model.state_dict().keys()
    assert not lean_blocks(model), "the original is untouched"
    theirs = model(images)
    with torch.inference_mode():
        assert (fast(images) - theirs).abs().max() < 1e-5 * theirs.abs().max()
    model.train()(images).square().sum().backward()
    fast.train()(images).square().sum().backward()
    for (name, mine), other in zip(fast.named_parameters(), model.parameters(), strict=True):
        assert mine.grad is not None, name
        largest = max(other.grad.abs().max().item(), 1e-2)
        assert (mine.grad - other.grad).abs().max() < 1e-4 * largest, name


def test_stochastic_depth_draws_what_the_plain_block_draws() -> None:
    model, images = model_of(spec()), torch.randn(6, 3, 18, 22)
    for part in model.modules():
        if hasattr(part, "branch1"):
            part.branch1.add_module("drop_path", DropPath(0.5))
            part.branch2.add_module("drop_path", DropPath(0.5))
    fast = with_lean_blocks(model).train()
    assert len(lean_blocks(fast)) == 4
    torch.manual_seed(3)
    mine = fast(images)
    torch.manual_seed(3)
    theirs = model.train()(images)
    assert (mine - theirs).abs().max() < 1e-5 * theirs.abs().max()


@pytest.mark.parametrize(
    "changes",
    [
        {"mixer": MixerSpec(name="attention", args={"head_dim": 4})},
        {"mixer": MixerSpec(name="pooling", args={"subtract": False})},
        {"norm": NormSpec(kind="layer")},
        {"mlp": None},
        {"mlp": MLPSpec(activation="relu")},
        {"residual": ResidualSpec(norm_position="after")},
        {"residual": ResidualSpec(on=False)},
    ],
    ids=str,
)
def test_what_does_not_fit_stays(changes: dict[str, object]) -> None:
    model, images = model_of(spec(**changes)), torch.randn(2, 3, 18, 22)
    fast = with_lean_blocks(model)
    assert not lean_blocks(fast)
    assert torch.equal(fast(images), model(images))


def test_masks_dropout_and_doubles_take_the_plain_path() -> None:
    model = model_of(spec(mlp=MLPSpec(dropout=0.5)))
    block, plain = lean_blocks(with_lean_blocks(model))[0], model.backbone.stages[0].blocks[0]
    x, mask = torch.randn(2, 12, 12), torch.ones(2, 12, dtype=torch.bool)
    assert torch.equal(block(x, GRID, mask), plain(x, GRID, mask))
    assert torch.equal(block(x, (12,)), plain(x, (12,)))
    assert torch.equal(block.double()(x.double(), GRID), plain.double()(x.double(), GRID))
    block, plain = block.float().train(), plain.float().train()
    torch.manual_seed(1)
    mine = block(x, GRID)
    torch.manual_seed(1)
    assert torch.equal(mine, plain(x, GRID))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_exporters_see_the_plain_block() -> None:
    model, images = model_of(spec()), torch.randn(2, 3, 18, 22)
    traced = torch.jit.trace(with_lean_blocks(model), images)
    assert "PythonOp" not in str(traced.inlined_graph)
    for one in (model.train(), model.eval()):
        exported = torch.export.export(with_lean_blocks(one), (images,))
        assert not [node for node in exported.graph.nodes if "autograd_function" in str(node.target)]
    assert torch.allclose(exported.module()(images), model(images), atol=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("star", [False, True])
def test_compilers_see_lean_blocks_in_training(star: bool, bf16: bool) -> None:
    """Whole, with the gradients that the same blocks have line by line."""
    torch.compiler.reset()
    model, images = with_lean_blocks(model_of(spec(star))).train(), torch.randn(2, 3, 18, 22)
    twin, seen = copy.deepcopy(model), []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    for one in (model, torch.compile(twin, fullgraph=True, backend=backend, dynamic=False)):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = one(images).float().square().sum()
        loss.backward()
    assert seen.count("autograd_function_apply") == 2 * len(lean_blocks(model)), (
        "two halves, each with its own backward"
    )
    for (name, mine), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        apart = (mine.grad - theirs.grad).norm()
        assert apart <= (0.02 if bf16 else 1e-4) * mine.grad.norm() + 1e-6, name


def test_hooks_and_checkpoints_work() -> None:
    model, images = model_of(spec()), torch.randn(2, 3, 18, 22)
    fast = with_lean_blocks(model)
    seen: list[int] = []
    lean_blocks(fast)[1].register_forward_hook(lambda *_: seen.append(1))
    expected = model(images)
    assert torch.allclose(fast(images), expected, atol=1e-5)
    assert seen == [1]
    fast.backbone.set_grad_checkpointing()
    fast.train()(images).sum().backward()
    model.train()(images).sum().backward()
    for mine, other in zip(fast.parameters(), model.parameters(), strict=True):
        assert torch.allclose(mine.grad, other.grad, atol=1e-3)


def test_stages_pass_statistics_on() -> None:
    """Only the first block of a stage computes the statistics of its input."""
    fast = with_lean_blocks(model_of(spec()))
    assert sum(isinstance(part, LeanStage) for part in fast.modules()) == 2
    asked: list[int] = []
    original = operations.statistics

    def counted(x: Tensor, eps: float = 1e-5):
        asked.append(1)
        return original(x, eps)

    operations.statistics = counted
    try:
        fast(torch.randn(2, 3, 18, 22))
    finally:
        operations.statistics = original
    assert len(asked) == 2, "one for each stage"


def test_blocks_go_in_and_out_of_a_model_as_it_stands() -> None:
    model, images = model_of(spec()), torch.randn(2, 3, 18, 22)
    expected = model(images)
    assert use_lean_blocks(model) == 4
    assert len(lean_blocks(model)) == 4
    assert (model(images) - expected).abs().max() < 1e-5 * expected.abs().max()
    folded = fold(model)
    assert not lean_blocks(folded), "lean blocks need the norms that folding removes"
    assert (folded(images) - expected).abs().max() < 1e-5 * expected.abs().max()
    restore_blocks(model)
    assert not lean_blocks(model)
    assert torch.equal(model(images), expected)
    assert use_lean_blocks(model_of(spec(norm=NormSpec(kind="layer")))) == 0


def test_lean_blocks_keep_less() -> None:
    """The sum of what autograd holds on to between the passes."""
    wide = spec()
    wide = wide.with_changes(img_size=(36, 44))

    def kept(model: nn.Module) -> int:
        held: dict[int, int] = {}

        def hold(x: Tensor) -> Tensor:
            held[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(hold, lambda x: x):
            result = model.train()(torch.randn(4, 3, 36, 44))
        assert result.requires_grad
        return sum(held.values()) - sum(p.untyped_storage().nbytes() for p in model.parameters())

    model = model_of(wide)
    assert kept(with_lean_blocks(model)) < 0.6 * kept(model)


@pytest.mark.parametrize("star", [False, True])
def test_autocast_chooses_the_types(star: bool) -> None:
    """Products in bfloat16, sums and norms in float32, as in the plain block."""
    model, images = model_of(spec(star)).train(), torch.randn(3, 3, 18, 22)
    fast = with_lean_blocks(model)
    with torch.autocast("cpu", torch.bfloat16):
        mine, theirs = fast(images), model(images)
    assert mine.dtype == theirs.dtype
    assert (mine - theirs).float().norm() < 0.03 * theirs.float().norm()
    mine.float().square().sum().backward()
    theirs.float().square().sum().backward()
    for (name, one), other in zip(fast.named_parameters(), model.parameters(), strict=True):
        assert one.grad.dtype == torch.float32
        assert (one.grad - other.grad).norm() < 0.1 * other.grad.norm() + 0.05, name


class RecordingKernels:
    """Registered kernels: the formulas, with a note of every call."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def accept(self, x: Tensor) -> bool:
        return True

    def product_type(self, wanted: torch.dtype) -> torch.dtype:
        return wanted

    def statistics(self, x: Tensor, eps: float) -> formulas.Statistics:
        self.calls.append("statistics")
        return formulas.statistics(x, eps)

    def pooling_residual(self, x: Tensor, *place: object) -> tuple[Tensor, formulas.Statistics]:
        self.calls.append("pooling_residual")
        *place, dtype, next_eps = place
        y = formulas.pooling_residual(x, *place).to(dtype)
        return y, formulas.statistics(y, next_eps)

    def pooling_residual_gradients(self, g: Tensor, x: Tensor, *place: object) -> formulas.PoolingGradients:
        self.calls.append("pooling_residual_gradients")
        return formulas.pooling_residual_gradients(g, x, *place)

    def normalized_mlp(self, x: Tensor, *place: object) -> tuple[Tensor, formulas.Statistics]:
        self.calls.append("normalized_mlp")
        *place, dtype, next_eps, products, _fused = place
        y = formulas.normalized_mlp(x, *place, products)[0].to(dtype)
        return y, formulas.statistics(y, next_eps)

    def normalized_mlp_gradients(self, g: Tensor, x: Tensor, weights: MLPWeights, *rest: object) -> object:
        self.calls.append("normalized_mlp_gradients")
        stats, keep, products = rest
        before = formulas.normalized_mlp(x, weights, stats, keep, products)[1]
        return formulas.normalized_mlp_gradients(g, x, before, weights, stats, keep)


def test_registered_kernels_compute_lean_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = model_of(spec()), torch.randn(2, 3, 18, 22)
    lean, on_kernels, kernels = with_lean_blocks(model).train(), with_lean_blocks(model).train(), RecordingKernels()
    expected = lean(images)
    expected.square().sum().backward()
    monkeypatch.setattr(operations, "kernels", kernels)
    result = on_kernels(images)
    result.square().sum().backward()
    assert torch.equal(result, expected)
    for mine, theirs in zip(on_kernels.parameters(), lean.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    assert Counter(kernels.calls) == {
        "statistics": 2,
        "pooling_residual": 4,
        "normalized_mlp": 4,
        "pooling_residual_gradients": 4,
        "normalized_mlp_gradients": 4,
    }
