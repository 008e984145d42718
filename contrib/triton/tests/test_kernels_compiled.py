"""Every kernel is compiled for two GPUs, which needs none: the interpreter knows no types of registers, no constants
for arguments that are 1, and no limits of shared memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

triton = pytest.importorskip("triton")

from metaformer_triton import mlp, mlp_gradients, moments, stencil, tuning  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

WIDE = {"means", "squares", "mean_out", "rstd_out", "rstds", "sample_means", "factor", "through_rstd", "by_channel"}
WIDE |= {"by_skip", "sums", "shift", "row_sums", "column_sums", "star_sums", "by_mean", "by_rstd"}
"""Pointers to float32, whatever the tokens are; so is ``out`` of a sum."""
NUMBERS = {"height", "width", "N", "size", "rows", "columns", "tile_rows", "tile_columns", "tiles", "entries", "chunk"}
"""Whole numbers."""
SHARED = {90: 227, 80: 163}
"""KiB of shared memory that a program may have, by compute capability (CUDA programming guide)."""

PIXELS = {"C": 320, "KERNEL": 3, "SKIPPED": True}
MATRIX = {"C": 320, "J": 1280, "PRECISION": "ieee"}
PARTS = {"BIASED": True, "SCALED": True, "SKIPPED": True, "KEPT": True}
ONES = {"height": 1, "width": 1, "N": 1, "rows": 1, "tile_rows": 1, "tiles": 1}
KERNELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "moments": (moments._moments, {"BLOCK": 4096}),
    "merge": (moments._merge, {"BLOCK": 1024}),
    "pooling": (stencil._forward, PIXELS | {"SCALED": True}),
    "pooling sums": (stencil._sums, PIXELS),
    "pooling gradient": (stencil._backward, PIXELS | {"SCALED": True}),
    "hidden": (mlp._hidden, MATRIX | {"STAR": False, "CENTER": False, "GROUPED": 8}),
    "hidden, centered": (mlp._hidden, MATRIX | {"STAR": True, "CENTER": True, "GROUPED": 8}),
    "residual": (mlp._residual, MATRIX | PARTS | {"GROUPED": 8}),
    "both": (mlp._both, MATRIX | PARTS | {"C": 96, "J": 384, "WIDTH": 128, "STAR": True, "CENTER": False}),
    "hidden gradients": (
        mlp_gradients._hidden_gradients,
        MATRIX | {"STAR": True, "CENTER": False, "KEPT": True, "GROUPED": 8},
    ),
    "input gradient": (mlp_gradients._input_gradient, MATRIX | {"SKIPPED": True, "GROUPED": 8}),
    "sum over tokens": (mlp_gradients._sum_over_tokens, MATRIX | {"NORMALIZE": True}),
}


def compiled(name: str, capability: int, **ones: int) -> Any:
    """A kernel in its first configuration, for bfloat16 tokens."""
    tuned, constants = KERNELS[name]
    config = tuned.configs[0] if hasattr(tuned, "configs") else triton.Config({})
    kernel = tuned.fn if hasattr(tuned, "configs") else tuned
    constants = {**constants, **config.kwargs, **{key: one for key, one in ones.items() if key in kernel.arg_names}}

    def kind(argument: str) -> str:
        if argument in constants:
            return "constexpr"
        if argument in NUMBERS or argument == "eps":
            return "i32" if argument in NUMBERS else "fp32"
        return "*fp32" if argument in WIDE or (name == "sum over tokens" and argument == "out") else "*bf16"

    signature = {argument: kind(argument) for argument in kernel.arg_names}
    aligned = {(place,): [["tt.divisibility", 16]] for place, it in enumerate(signature.values()) if it.startswith("*")}
    values = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
    return triton.compile(
        ASTSource(kernel, signature, values, aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": config.num_warps, "num_stages": config.num_stages},
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert not tuning.INTERPRETED
    for capability, kilobytes in SHARED.items():
        made = compiled(name, capability)
        assert made.metadata.shared <= kilobytes * 1024
        assert ".entry" in made.asm["ptx"]
    assert ".entry" in compiled(name, 90, **ONES).asm["ptx"]
