"""Speed of models built from the general frame, compared with timm's or transformers' own models.

    python benchmarks/frame_speed.py                       # everything, about half an hour on two cores
    python benchmarks/frame_speed.py --models deit_small_patch16_224 --dtypes float32 --rounds 5

Each pair runs in turns in one process: one call of ours, one of theirs, the order reversed every round, so that other
load affects both. A ratio is the median over the rounds of (our time / their time): below 1 ours is faster. Forward is
in evaluation mode without gradients; forward and backward in training mode, gradients set to None between calls. Batch
8 at 224 × 224, random weights, the memory format in which each library builds its model.

No other program should run. The result, with hardware and versions, is written to frame_speed.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn

import metaformer
from metaformer.benchmark.machine import machine

BATCH, SIDE = 8, 224
OUT = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Pair:
    """One of our models and the other library's."""

    name: str
    """Of our model."""
    against: str
    """The library of the other model."""
    theirs: Callable[[], nn.Module]
    """Builds the other model."""


def of_timm(name: str) -> Pair:
    """A model that timm has under the same name."""
    return Pair(name, "timm", lambda: timm.create_model(name))


def pvt_of_transformers() -> nn.Module:
    """PVT-Tiny; the defaults of its configuration are that size."""
    return transformers.PvtForImageClassification(transformers.PvtConfig(num_labels=1000))


PAIRS = (
    of_timm("deit_small_patch16_224"),
    of_timm("mixer_b16_224"),
    of_timm("resmlp_12_224"),
    of_timm("swin_tiny_patch4_window7_224"),
    Pair("pvt_tiny", "transformers", pvt_of_transformers),
    of_timm("poolformer_s12"),
    of_timm("caformer_s18"),
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def forward(model: nn.Module, images: Tensor) -> None:
    """One prediction."""
    with torch.inference_mode():
        model(images)


def forward_and_backward(model: nn.Module, images: Tensor) -> None:
    """One step of training without the optimizer."""
    scores = model(images)
    (scores if isinstance(scores, Tensor) else scores.logits).float().square().mean().backward()
    for parameter in model.parameters():
        parameter.grad = None


MODES: dict[str, tuple[bool, Callable[[nn.Module, Tensor], None]]] = {
    "forward": (False, forward),
    "forward and backward": (True, forward_and_backward),
}


def seconds(call: Callable[[nn.Module, Tensor], None], model: nn.Module, images: Tensor) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call(model, images)
    return time.perf_counter() - start


def compared(pair: Pair, dtype: str, mode: str, rounds: int, warm_up: int, limit: float) -> dict[str, Any]:
    """Ours and theirs in turns: ``rounds`` of them, fewer but at least five where they take over ``limit`` seconds."""
    training, call = MODES[mode]
    images = torch.randn(BATCH, 3, SIDE, SIDE, dtype=DTYPES[dtype])
    ours, theirs = (
        model.to(DTYPES[dtype]).train(training) for model in (metaformer.create_model(pair.name), pair.theirs())
    )
    times: tuple[list[float], list[float]] = ([], [])
    start = time.perf_counter()
    for turn in range(warm_up + rounds):
        if len(times[0]) >= 5 and time.perf_counter() - start > limit:
            break
        order = ((0, ours), (1, theirs)) if turn % 2 else ((1, theirs), (0, ours))
        for place, model in order:
            spent = seconds(call, model, images)
            if turn >= warm_up:
                times[place].append(spent)
    ratios = [mine / other for mine, other in zip(*times, strict=True)]
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {
        "model": pair.name,
        "against": pair.against,
        "dtype": dtype,
        "mode": mode,
        "ratio": round(quarters[1], 4),
        "quartiles": [round(quarters[0], 4), round(quarters[2], 4)],
        "ours_s": round(statistics.median(times[0]), 4),
        "theirs_s": round(statistics.median(times[1]), 4),
        "rounds": len(ratios),
    }


def shown(results: list[dict[str, Any]]) -> Table:
    """The results for a terminal."""
    table = Table(title="our time / their time (below 1: ours is faster)", title_justify="left")
    for head in ("model", "against", "dtype", "mode", "ratio", "quartiles", "ours", "theirs"):
        table.add_column(head, justify="left" if head in ("model", "against", "dtype", "mode") else "right")
    for result in results:
        low, high = result["quartiles"]
        table.add_row(
            result["model"], result["against"], result["dtype"], result["mode"], f"{result['ratio']:.3f}",
            f"{low:.3f} to {high:.3f}", f"{result['ours_s']:.3f} s", f"{result['theirs_s']:.3f} s",
        )  # fmt: skip
    return table


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [pair.name for pair in PAIRS]
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--limit", type=float, default=45.0, help="seconds a comparison, beyond five rounds")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()

    torch.manual_seed(0)
    console = Console()
    result: dict[str, Any] = {"batch": BATCH, "side": SIDE, "machine": machine(), "results": []}
    cells = [
        (pair, dtype, mode)
        for dtype in asked.dtypes
        for mode in asked.modes
        for pair in PAIRS
        if pair.name in asked.models
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("", total=len(cells))
        for pair, dtype, mode in cells:
            progress.update(task, description=f"{pair.name}, {dtype}, {mode}")
            result["results"].append(compared(pair, dtype, mode, asked.rounds, asked.warm_up, asked.limit))
            asked.out.write_text(json.dumps(result, indent=2) + "\n")
            progress.advance(task)
    Console(width=max(console.width, 120)).print(shown(result["results"]))
    console.print(f"written to {asked.out}")


if __name__ == "__main__":
    main()
