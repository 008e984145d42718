"""Weights of each task, and images to predict on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dense_run import narrow
from drawn_sets import drawn
from tiny_models import saved_models


@pytest.fixture(autouse=True)
def _small_heads() -> Iterator[None]:
    with narrow():
        yield


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A weights file for each task."""
    return saved_models(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(3):
        drawn(seed)[0].save(folder / f"{seed}.png")
    return folder
