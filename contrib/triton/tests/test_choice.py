"""The choice between kernels and PyTorch, with a fabricated clock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("triton")

from metaformer_triton import choice as choice_module
from metaformer_triton.choice import choose, median_ratios, paths

from metaformer import EmbeddingSpec, MixerSpec, ModelSpec, NormSpec, StageSpec
from metaformer.model.build import build
from metaformer.model.layers import GroupNorm, Scale
from metaformer.model.lean.blocks import LeanBlock, with_lean_blocks
from metaformer.spec.model import HeadSpec, ResidualSpec


def small_model() -> nn.Module:
    """PoolFormer's blocks, two in each of two stages."""
    norm = NormSpec(kind="group")
    stages = tuple(
        StageSpec(
            depth=2,
            width=width,
            embedding=EmbeddingSpec(kernel=3, stride=2, padding=1),
            mixer=MixerSpec(name="pooling"),
            norm=norm,
            residual=ResidualSpec(layer_scale=0.1),
        )
        for width in (12, 20)
    )
    return build(ModelSpec(stages=stages, head=HeadSpec(norm=norm), num_classes=4, img_size=(18, 22))).eval()


def lean_blocks(model: nn.Module) -> list[LeanBlock]:
    return [part for part in model.modules() if isinstance(part, LeanBlock)]


def test_without_a_gpu_every_block_stays_plain() -> None:
    model, images = small_model(), torch.randn(2, 3, 18, 22)
    choice = choose(model, images)
    assert "CUDA" in choice.note
    assert choice.measured == ()
    assert {block.path for block in lean_blocks(choice.model)} == {"plain"}
    assert torch.equal(choice.model(images), model(images))
    assert "has no block" in str(choose(nn.Linear(2, 2), images))


def test_the_benchmark_says_that_there_is_no_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    script = Path(__file__).resolve().parents[1] / "benchmark.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "needs a CUDA device" in done.stderr


class FabricatedGPU:
    """A clock that reports a given time for each path; the path ``wrong`` has a wrong result."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, milliseconds: dict[str, float], wrong: str = "") -> None:
        self.last, self.milliseconds, self.wrong = "", milliseconds, wrong
        original = LeanBlock.with_statistics

        def noted(block: LeanBlock, *args: object, **kwargs: object):
            self.last = block.path
            y, stats = original(block, *args, **kwargs)  # type: ignore[arg-type]
            return (y + 0.1 * (y - args[0]) if block.path == self.wrong else y), stats  # type: ignore[operator]

        monkeypatch.setattr(LeanBlock, "with_statistics", noted)
        monkeypatch.setattr(choice_module, "register", lambda: None)
        monkeypatch.setattr(choice_module, "_obstacle", lambda blocks, images: "")
        monkeypatch.setattr(choice_module, "_milliseconds", self.clock)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a fabricated GPU")

    def clock(self, call: Callable[[], object]) -> float:
        call()
        return self.milliseconds[self.last]


@pytest.mark.parametrize("training", [False, True])
def test_the_fastest_path_is_kept(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = small_model().train(training), torch.randn(2, 3, 18, 22)
    FabricatedGPU(monkeypatch, {"plain": 2.0, "lean": 1.0, "fused": 4.0})
    choice = choose(model, images, rounds=3, warm_up=1)
    assert [len(row.blocks) for row in choice.measured] == [2, 2], "alike blocks are timed once"
    assert [row.shape for row in choice.measured] == [(2, 99, 12), (2, 30, 20)]
    assert choice.measured[0].ratios == {"plain": 1.0, "lean": 2.0, "fused": 0.5}
    assert {block.path for block in lean_blocks(choice.model)} == {"lean"}
    assert "4 of 4" in choice.note
    assert choice.model.training is training
    assert all(parameter.grad is None for parameter in choice.model.parameters())
    assert not any(part._forward_pre_hooks for part in choice.model.modules())


def test_slower_kernels_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = small_model(), torch.randn(2, 3, 18, 22)
    FabricatedGPU(monkeypatch, {"plain": 1.0, "lean": 1.5, "fused": 2.0})
    choice = choose(model, images, rounds=3, warm_up=1)
    assert {block.path for block in lean_blocks(choice.model)} == {"plain"}
    assert "0 of 4" in choice.note


def test_a_path_with_another_result_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if LayerScale is as small as at its initialization, where an error in the branch would not show."""
    model, images = small_model(), torch.randn(2, 3, 18, 22)
    for part in model.modules():
        if isinstance(part, Scale):
            nn.init.constant_(part.scale, 1e-6)
    FabricatedGPU(monkeypatch, {"plain": 2.0, "lean": 1.0, "fused": 0.1}, wrong="fused")
    choice = choose(model, images, rounds=3, warm_up=1)
    assert {block.path for block in lean_blocks(choice.model)} == {"lean"}
    assert "fused refused: differs from the plain block" in str(choice)


def test_ratios_are_medians_over_rounds() -> None:
    """A round in which the machine was busy changes neither side's figure."""
    ratios = median_ratios({"plain": [2.0, 20.0, 2.2], "lean": [1.0, 10.0, 1.0], "fused": [4.0, 40.0, 4.0]})
    assert ratios == pytest.approx({"plain": 1.0, "lean": 2.0, "fused": 0.5})


def test_wide_tokens_are_not_offered_the_single_kernel() -> None:
    narrow = lean_blocks(with_lean_blocks(small_model()))[0]
    assert paths(narrow) == ("plain", "lean", "fused")
    narrow.norm2 = GroupNorm(320)
    assert paths(narrow) == ("plain", "lean")
