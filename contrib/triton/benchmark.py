"""Speed of the kernels on this machine's GPU: single blocks, then whole models against PyTorch and timm.

    python contrib/triton/benchmark.py                                  # everything
    python contrib/triton/benchmark.py --models poolformer_s12 --modes inference --batches 256

Contenders run in turns in one process, the order reversed every round, timed by the GPU's clock. A ratio is the median
over the rounds of (the contender's time / our kernels' time): above 1 the kernels are faster. First the output of the
kernels is compared with that of the plain model of the same weights. Inference: weights and images in bfloat16, no
gradients. Training: float32 weights under bfloat16 autocast, forward, backward and fused AdamW. timm is taken as it
comes and at its best: channels_last with torch.compile in mode max-autotune.

``step_mb`` is what a training step holds at its peak beyond weights and optimizer: activations and gradients.

No other program should use the GPU. The result, with hardware and versions, goes to
benchmarks/results/kernels_<device>.json.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from metaformer_triton.choice import Choice, choose, with_unit_scales
from torch import Tensor, nn

from metaformer.benchmark.machine import machine
from metaformer.factory.classifier import create_model

OUT = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
MODELS = ("poolformer_s12", "poolformer_s36", "poolformerv2_s12")
OURS = "ours, kernels"
Call = Callable[[], object]


def inference(model: nn.Module, images: Tensor) -> Call:
    """One prediction."""

    def call() -> None:
        with torch.inference_mode():
            model(images)

    return call


def training(model: nn.Module, images: Tensor) -> Call:
    """One update on made-up labels."""
    labels = torch.randint(1000, (len(images),), device=images.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def call() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = nn.functional.cross_entropy(model(images).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return call


def captured(model: nn.Module, images: Tensor) -> Call:
    """Predictions as a CUDA graph, which is what timm gets from max-autotune: no time is spent on launching."""
    call = inference(model, images)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def prepared(model: nn.Module, mode: str) -> nn.Module:
    """On the GPU, in the mode and the type that is measured."""
    model = model.cuda()
    return model.eval().bfloat16() if mode == "inference" else model.train()


def contenders(name: str, mode: str, images: Tensor, choice: Choice, plain: nn.Module) -> dict[str, Callable[[], Call]]:
    """How each one is made ready; that may fail, and does not stop the others."""
    import timm

    ready = inference if mode == "inference" else training
    maps = images.contiguous(memory_format=torch.channels_last)

    def theirs() -> nn.Module:
        return prepared(timm.create_model(name), mode).to(memory_format=torch.channels_last)

    makers: dict[str, Callable[[], Call]] = {
        OURS: lambda: ready(choice.model, images),
        "ours, plain": lambda: ready(plain, images),
        "ours, plain, compiled": lambda: ready(torch.compile(plain, mode="max-autotune"), images),  # type: ignore[arg-type]
        "timm, NCHW": lambda: ready(prepared(timm.create_model(name), mode), images),
        "timm, channels_last": lambda: ready(theirs(), maps),
        "timm, channels_last, max-autotune": lambda: ready(torch.compile(theirs(), mode="max-autotune"), maps),  # type: ignore[arg-type]
    }
    if mode == "inference":
        makers["ours, kernels, CUDA graph"] = lambda: captured(choice.model, images)
    return makers


def milliseconds(call: Call, calls: int) -> float:
    """Time of a call on the GPU, the mean of a few in a row."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / calls


def step_megabytes(call: Call) -> float:
    """The most that a call holds at a time beyond what was held before it."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def difference(choice: Choice, plain: nn.Module, images: Tensor) -> float:
    """Largest difference of the scores relative to the largest, in evaluation mode and with LayerScale at one."""
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        mine, other = (with_unit_scales(model).eval()(images).float() for model in (choice.model, plain))
    return ((mine - other).abs().max() / other.abs().max()).item()


def ready_calls(makers: dict[str, Callable[[], Call]]) -> tuple[dict[str, Call], dict[str, str]]:
    """Contenders that run, and why others do not. Three calls compile, tune and warm up."""
    calls: dict[str, Call] = {}
    failed: dict[str, str] = {}
    for name, make in makers.items():
        try:
            call = make()
            for _ in range(3):
                call()
            torch.cuda.synchronize()
            calls[name] = call
        except Exception as error:  # one compiler's failure is a result too, not the end of the benchmark
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return calls, failed


def timed(running: dict[str, Call], rounds: int, calls: int, failed: dict[str, str]) -> dict[str, list[float]]:
    """Milliseconds of every round; a contender that breaks down on the way, out of memory say, joins ``failed``."""
    times: dict[str, list[float]] = {contender: [] for contender in running}
    for turn in range(rounds):
        for contender in list(times)[:: 1 if turn % 2 else -1]:
            try:
                times[contender].append(milliseconds(running[contender], calls))
            except RuntimeError as error:
                failed[contender] = f"{type(error).__name__}: {error}".splitlines()[0]
                del times[contender]
    return times


def measured(name: str, mode: str, batch: int, side: int, rounds: int, calls: int) -> dict[str, Any]:
    """All contenders of one model in turns."""
    dtype = torch.bfloat16 if mode == "inference" else torch.float32
    images = torch.randn(batch, 3, side, side, device="cuda", dtype=dtype)
    plain = prepared(create_model(name), mode)
    with torch.autocast("cuda", torch.bfloat16, enabled=mode == "training"):
        choice = choose(plain, images)
    row: dict[str, Any] = {"model": name, "mode": mode, "batch": batch, "side": side, "note": choice.note}
    row["blocks"] = [asdict(part) for part in choice.measured]
    row["difference"] = difference(choice, plain, images)
    running, row["failed"] = ready_calls(contenders(name, mode, images, choice, plain))
    if OURS not in running:
        return row
    times = timed(running, rounds, calls, row["failed"])
    if OURS not in times:
        return row
    row["milliseconds"] = {contender: round(statistics.median(spent), 4) for contender, spent in times.items()}
    row["images_per_second"] = {c: round(1000 * batch / spent, 1) for c, spent in row["milliseconds"].items()}
    row["ratios"] = {
        contender: round(statistics.median(other / own for other, own in zip(spent, times[OURS], strict=True)), 3)
        for contender, spent in times.items()
    }
    if mode == "training":
        row["step_mb"] = {contender: round(step_megabytes(running[contender]), 1) for contender in times}
    return row


def main() -> int:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--modes", nargs="+", choices=("inference", "training"), default=["inference", "training"])
    parser.add_argument("--batches", nargs="+", type=int, default=[256, 1])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=5, help="calls between two readings of the clock")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "This benchmark needs a CUDA device, and this machine has none.",
            file=sys.stderr,
        )
        return 2

    torch.manual_seed(0)
    device = re.sub(r"\W+", "_", torch.cuda.get_device_name()).strip("_").lower()
    out = asked.out or OUT / f"kernels_{device}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": machine(), "gpu": torch.cuda.get_device_name(), "results": []}
    for name in asked.models:
        for mode in asked.modes:
            for batch in asked.batches:
                if mode == "training" and batch == 1:
                    continue
                row = measured(name, mode, batch, asked.side, asked.rounds, asked.calls)
                result["results"].append(row)
                out.write_text(json.dumps(result, indent=2) + "\n")
                print(name, mode, batch, row["note"], row.get("ratios"), row.get("step_mb"), row["failed"], sep="\n  ")
                torch.compiler.reset()
                torch.cuda.empty_cache()
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
