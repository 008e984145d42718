"""Tiny image folders, written for each test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from tiny_images import noise


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write ``{"train/cat": 3, ...}`` below a fresh folder: so many images in each."""

    def write(counts: Mapping[str, int], name: str = "set", suffix: str = ".png") -> Path:
        root = tmp_path / name
        for number, (folder, count) in enumerate(counts.items()):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                noise(1000 * number + i).save(root / folder / f"{i:03d}{suffix}")
        return root

    return write
