"""What the tests of sweeps share: one sweep that went through undisturbed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_sweep import swept, written_plan


@pytest.fixture(scope="session")
def tiny_plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base and two changes."""
    return written_plan(tmp_path_factory.mktemp("plan"))


@pytest.fixture(scope="session")
def unbroken(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows with two seeds each, by two workers, never disturbed."""
    folder = tmp_path_factory.mktemp("sweeps") / "unbroken"
    swept(tiny_plan, folder, seeds=2)
    return folder


@pytest.fixture
def again(unbroken: Path, tmp_path: Path) -> Path:
    """A copy of the undisturbed sweep to do something to."""
    return Path(shutil.copytree(unbroken, tmp_path / "again"))


@pytest.fixture
def refused() -> Callable[..., str]:
    """Run a plan that is refused; the message."""
    from metaformer.errors import RunError

    def message(plan: Path, out: Path, **choices: Any) -> str:
        with pytest.raises(RunError) as caught:
            swept(plan, out, **choices)
        return str(caught.value)

    return message
