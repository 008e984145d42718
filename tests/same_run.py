"""Whether two runs are the same to the last bit."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from metaformer.training.checkpoint import read_tree
from metaformer.training.trainer import TIMING
from metaformer.weights.safetensors_io import read_tensors


def same(a: Any, b: Any) -> bool:
    """Equal trees of dicts, lists, numbers, strings and tensors, types and order included; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def metrics_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv."""
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def expect_same_run(one: Path, two: Path, epochs: int) -> None:
    """Weights, averages, optimizer and metrics are equal to the last bit; only the clock may differ."""
    for name in ("last.safetensors", "best.safetensors"):
        (tensors, header), (others, other_header) = (read_tensors(folder / name) for folder in (one, two))
        assert same(tensors, others), name
        assert header == other_header
    states, rows = [], []
    for folder in (one, two):
        states.append(read_tree(folder / "checkpoint.safetensors"))
        rows.append(metrics_rows(folder))
        for values in (states[-1]["state"]["metrics"], *rows[-1]):
            assert all(float(values.pop(name)) > 0 for name in TIMING)
    assert same(states[0], states[1])
    assert len(rows[0]) == epochs
    assert rows[0] == rows[1]
