"""The logits of the original implementations, matched from their own checkpoint layout to 1e-4 of the largest.

The golden files hold no weights: each entry of the published state dict is regenerated from its name
(``golden/README.md`` gives the recipe), so loading, renaming, reshaping and the forward pass are all tested against
numbers that this library had no part in.
"""

import json
import zlib
from math import prod, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

import metaformer
from metaformer.weights.load import load_weights

GOLDEN = Path(__file__).parent / "golden"
MODELS = sorted(path.stem for path in GOLDEN.glob("*.json"))
TOLERANCE = 1e-4


def rebuilt(key: str, shape: list[int]) -> torch.Tensor:
    """The value that the recipe gives to one entry of a state dict."""
    values = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape)
    if len(shape) >= 2:
        values = values / sqrt(prod(shape[1:]))
    elif key.endswith("weight") or any(word in key for word in ("layer_scale", "alpha", "gamma")):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(values.astype(np.float32))


def relative_difference(ours: torch.Tensor, theirs: np.ndarray) -> float:
    """The largest difference as a share of the largest magnitude."""
    return float(np.abs(ours.numpy() - theirs).max() / np.abs(theirs).max())


def test_every_model_of_the_originals_is_here() -> None:
    assert len(MODELS) == 17


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_the_originals(name: str, record_property) -> None:
    described = json.loads((GOLDEN / f"{name}.json").read_text())
    state = {key: rebuilt(key, shape) for key, (shape, _) in described["state"].items()}
    model = metaformer.create_model(name).eval()
    report = load_weights(model, state)
    assert report.loaded == len(state)
    assert sum(p.numel() for p in model.parameters()) == described["params"]

    images = np.random.Generator(np.random.PCG64(0)).standard_normal(described["input"]["shape"])
    with torch.inference_mode():
        logits = model(torch.from_numpy(images.astype(np.float32)))
    difference = relative_difference(logits, np.load(GOLDEN / f"{name}.npz")["logits"])
    record_property("relative difference", difference)
    print(f"{name}: {report.layout}, relative difference {difference:.1e}")
    assert difference < TOLERANCE
