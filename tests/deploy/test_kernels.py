"""The algebra behind the kernels, checked in float64; and which blocks get them, what stays, who decides.

What runs here is the plain formula of each kernel; ``test_kernels_run.py`` runs the kernels themselves.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metaformer import EmbeddingSpec, MixerSpec, ModelSpec, NormSpec, StageSpec
from metaformer.deploy.fold import fold
from metaformer.model.build import build
from metaformer.model.layers import DropPath, GroupNorm, Scale
from metaformer.model.lean.blocks import KernelBlock, KernelStage, accelerated, paths, restore_blocks, use_lean_blocks
from metaformer.model.lean.formulas import MLPWeights
from metaformer.model.lean.operations import normalized_mlp, pooling_residual, statistics
from metaformer.model.lean.triton import choice as choice_module
from metaformer.model.lean.triton.choice import choose, median_ratios
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


def kernel_blocks(model: nn.Module) -> list[KernelBlock]:
    return [part for part in model.modules() if isinstance(part, KernelBlock)]


@pytest.mark.parametrize("star", [False, True])
def test_an_accelerated_model_is_the_same_function(star: bool) -> None:
    model, images = model_of(spec(star)), torch.randn(3, 3, 18, 22)
    fast = accelerated(model)
    assert len(kernel_blocks(fast)) == 4
    assert fast.state_dict().keys() == model.state_dict().keys()
    assert not kernel_blocks(model), "the original is untouched"
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
    fast = accelerated(model).train()
    assert len(kernel_blocks(fast)) == 4
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
    fast = accelerated(model)
    assert not kernel_blocks(fast)
    assert torch.equal(fast(images), model(images))


def test_masks_dropout_and_doubles_take_the_plain_path() -> None:
    model = model_of(spec(mlp=MLPSpec(dropout=0.5)))
    block, plain = kernel_blocks(accelerated(model))[0], model.backbone.stages[0].blocks[0]
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
def test_exporters_are_shown_the_plain_block() -> None:
    model, images = model_of(spec()), torch.randn(2, 3, 18, 22)
    traced = torch.jit.trace(accelerated(model), images)
    assert "PythonOp" not in str(traced.inlined_graph)
    for one in (model.train(), model.eval()):
        exported = torch.export.export(accelerated(one), (images,))
        assert not [node for node in exported.graph.nodes if "autograd_function" in str(node.target)]
    assert torch.allclose(exported.module()(images), model(images), atol=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("star", [False, True])
def test_compilers_see_lean_blocks_in_training(star: bool, bf16: bool) -> None:
    """Whole, with the gradients that the same blocks have line by line."""
    torch.compiler.reset()
    model, images = accelerated(model_of(spec(star))).train(), torch.randn(2, 3, 18, 22)
    twin, seen = copy.deepcopy(model), []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    for one in (model, torch.compile(twin, fullgraph=True, backend=backend, dynamic=False)):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = one(images).float().square().sum()
        loss.backward()
    assert seen.count("autograd_function_apply") == 2 * len(kernel_blocks(model)), (
        "two halves, each with its own backward"
    )
    for (name, mine), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        apart = (mine.grad - theirs.grad).norm()
        assert apart <= (0.02 if bf16 else 1e-4) * mine.grad.norm() + 1e-6, name


def test_hooks_and_checkpoints_are_heeded() -> None:
    model, images = model_of(spec()), torch.randn(2, 3, 18, 22)
    fast = accelerated(model)
    seen: list[int] = []
    kernel_blocks(fast)[1].register_forward_hook(lambda *_: seen.append(1))
    expected = model(images)
    assert torch.allclose(fast(images), expected, atol=1e-5)
    assert seen == [1]
    fast.backbone.set_grad_checkpointing()
    fast.train()(images).sum().backward()
    model.train()(images).sum().backward()
    for mine, other in zip(fast.parameters(), model.parameters(), strict=True):
        assert torch.allclose(mine.grad, other.grad, atol=1e-3)


def test_stages_hand_statistics_on() -> None:
    """After the first block nobody measures again."""
    from metaformer.model.lean import operations

    fast = accelerated(model_of(spec()))
    assert sum(isinstance(part, KernelStage) for part in fast.modules()) == 2
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


def test_without_a_gpu_nothing_is_chosen_and_it_says_so() -> None:
    model, images = model_of(spec()), torch.randn(2, 3, 18, 22)
    choice = choose(model, images)
    assert "CUDA" in choice.note
    assert choice.measured == ()
    assert {block.path for block in kernel_blocks(choice.model)} == {"plain"}
    assert torch.equal(choice.model(images), model(images))
    none = choose(model_of(spec(norm=NormSpec(kind="layer"))), images)
    assert "No block" in str(none)


def test_the_benchmark_says_that_there_is_no_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "kernels.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr


class FabricatedGPU:
    """A clock that says what each path takes, and a wrong answer where one is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, milliseconds: dict[str, float], wrong: str = "") -> None:
        self.last, self.milliseconds, self.wrong = "", milliseconds, wrong
        original = KernelBlock.with_statistics

        def noted(block: KernelBlock, *args: object, **kwargs: object):
            self.last = block.path
            y, stats = original(block, *args, **kwargs)  # type: ignore[arg-type]
            return (y + 0.1 * (y - args[0]) if block.path == self.wrong else y), stats  # type: ignore[operator]

        monkeypatch.setattr(KernelBlock, "with_statistics", noted)
        monkeypatch.setattr(choice_module, "_obstacle", lambda blocks, images: "")
        monkeypatch.setattr(choice_module, "_milliseconds", self.clock)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a fabricated GPU")

    def clock(self, call: Callable[[], object]) -> float:
        call()
        return self.milliseconds[self.last]


@pytest.mark.parametrize("training", [False, True])
def test_the_fastest_path_is_kept(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = model_of(spec()).train(training), torch.randn(2, 3, 18, 22)
    FabricatedGPU(monkeypatch, {"plain": 2.0, "kernels": 1.0, "fused": 4.0})
    choice = choose(model, images, rounds=3, warm_up=1)
    assert [len(row.blocks) for row in choice.measured] == [2, 2], "alike blocks are timed once"
    assert [row.shape for row in choice.measured] == [(2, 99, 12), (2, 30, 20)]
    assert choice.measured[0].ratios == {"plain": 1.0, "kernels": 2.0, "fused": 0.5}
    assert {block.path for block in kernel_blocks(choice.model)} == {"kernels"}
    assert "4 of 4" in choice.note
    assert choice.model.training is training
    assert all(parameter.grad is None for parameter in choice.model.parameters())
    assert not any(part._forward_pre_hooks for part in choice.model.modules())


def test_slower_kernels_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = model_of(spec()), torch.randn(2, 3, 18, 22)
    FabricatedGPU(monkeypatch, {"plain": 1.0, "kernels": 1.5, "fused": 2.0})
    choice = choose(model, images, rounds=3, warm_up=1)
    assert {block.path for block in kernel_blocks(choice.model)} == {"plain"}
    assert "0 of 4" in choice.note


def test_a_path_with_another_answer_is_refused_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where LayerScale stands at its first value, and hides the branch that is wrong."""
    model, images = model_of(spec()), torch.randn(2, 3, 18, 22)
    for part in model.modules():
        if isinstance(part, Scale):
            nn.init.constant_(part.scale, 1e-6)
    FabricatedGPU(monkeypatch, {"plain": 2.0, "kernels": 1.0, "fused": 0.1}, wrong="fused")
    choice = choose(model, images, rounds=3, warm_up=1)
    assert {block.path for block in kernel_blocks(choice.model)} == {"kernels"}
    assert "fused refused: differs from the plain block" in str(choice)


def test_ratios_are_medians_over_rounds() -> None:
    """A round in which the machine was busy changes neither side's figure."""
    ratios = median_ratios({"plain": [2.0, 20.0, 2.2], "kernels": [1.0, 10.0, 1.0], "fused": [4.0, 40.0, 4.0]})
    assert ratios == pytest.approx({"plain": 1.0, "kernels": 2.0, "fused": 0.5})


def test_wide_tokens_are_not_offered_the_single_kernel() -> None:
    narrow = kernel_blocks(accelerated(model_of(spec())))[0]
    assert paths(narrow) == ("plain", "kernels", "fused")
    narrow.norm2 = GroupNorm(320)
    assert paths(narrow) == ("plain", "kernels")


def test_blocks_go_in_and_out_of_a_model_as_it_stands() -> None:
    model, images = model_of(spec()), torch.randn(2, 3, 18, 22)
    expected = model(images)
    assert use_lean_blocks(model) == 4
    assert len(kernel_blocks(model)) == 4
    assert (model(images) - expected).abs().max() < 1e-5 * expected.abs().max()
    folded = fold(model)
    assert not kernel_blocks(folded), "kernels want the parts that folding takes away"
    assert (folded(images) - expected).abs().max() < 1e-5 * expected.abs().max()
    restore_blocks(model)
    assert not kernel_blocks(model)
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
    assert kept(accelerated(model)) < 0.6 * kept(model)


@pytest.mark.parametrize("star", [False, True])
def test_autocast_is_heeded(star: bool) -> None:
    """Products in bfloat16, sums and norms in float32, as in the plain block."""
    model, images = model_of(spec(star)).train(), torch.randn(3, 3, 18, 22)
    fast = accelerated(model)
    with torch.autocast("cpu", torch.bfloat16):
        mine, theirs = fast(images), model(images)
    assert mine.dtype == theirs.dtype
    assert (mine - theirs).float().norm() < 0.03 * theirs.float().norm()
    mine.float().square().sum().backward()
    theirs.float().square().sum().backward()
    for (name, one), other in zip(fast.named_parameters(), model.parameters(), strict=True):
        assert one.grad.dtype == torch.float32
        assert (one.grad - other.grad).norm() < 0.1 * other.grad.norm() + 0.05, name
