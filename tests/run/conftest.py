"""One folder of images and one finished run that tests only look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_sets import class_folder
from tiny_run import quick, recipe_for

from metaformer.run.train import RunResult


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, images: Path) -> RunResult:
    return quick(recipe_for(images), tmp_path_factory.mktemp("runs") / "run", page=True, command="metaformer train ...")
