"""A model small enough for every test, and a local hub."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from torch import nn

import metaformer
from metaformer.model.classifier import Classifier
from metaformer.spec.input import TokenInput
from metaformer.spec.mixer import MixerSpec
from metaformer.spec.model import EmbeddingSpec, ModelSpec, StageSpec
from metaformer.zoo.poolformer import CHANNEL_NORM, poolformer_frame

from .fake_hub import FakeHub

POOLING, ATTENTION = MixerSpec(name="pooling"), MixerSpec(name="attention", args={"head_dim": 8})


def randomized(module: nn.Module) -> nn.Module:
    """Every parameter anew, so that no two models agree by their initial values."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module.eval()


def text_spec(length: int) -> ModelSpec:
    """One block over sequences of tokens."""
    stage = StageSpec(depth=1, width=8, embedding=EmbeddingSpec(kind="token"), mixer=POOLING, position=True)
    return ModelSpec(stages=(stage,), num_classes=3, tokens=TokenInput(vocab_size=50, length=length))


@pytest.fixture
def tiny() -> Callable[..., Classifier]:
    """Makes a four-stage PoolFormer of 6,000 parameters with random weights; takes ``create_model``'s arguments."""
    spec = poolformer_frame((1, 2, 1, 1), (8, 8, 16, 16)).with_changes(num_classes=5, img_size=(64, 64))
    return lambda **kwargs: randomized(metaformer.create_model(spec, **kwargs))


@pytest.fixture
def tiny_hybrid() -> Callable[..., Classifier]:
    """The same frame with attention and a position table in the last stage, on a grid of 2 × 2."""
    mixers = (POOLING, POOLING, POOLING, ATTENTION)
    spec = poolformer_frame((1, 2, 1, 1), (8, 8, 16, 16), mixers=mixers, norm=CHANNEL_NORM, position_at=3)
    spec = spec.with_changes(num_classes=5, img_size=(64, 64))
    return lambda **kwargs: randomized(metaformer.create_model(spec, **kwargs))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub that this process takes for the hub, with an empty cache."""
    with FakeHub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
        yield server
