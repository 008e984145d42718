"""Provenance of results: the commit, the CPU and package versions, for config.json and bench.json."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@cache
def commit() -> str | None:
    """The short hash of the git checkout that this library runs from, with a ``+`` for uncommitted changes.

    None where the library is not a checkout.
    """
    root = Path(__file__).resolve().parents[2]
    # git itself searches upwards: an installed wheel would report the project whose .venv it is in
    if not (root / ".git").exists():
        return None
    # --exclude=* ignores tags, so that the result is always a hash
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_name() -> str:
    """The name of the CPU, as the system reports it."""
    # on Linux, platform.processor() is only the architecture or empty
    return next(iter(cpuinfo("model name")), "") or platform.processor() or platform.machine()


def cpuinfo(key: str) -> list[str]:
    """The value of one key of /proc/cpuinfo for each core; empty on systems other than Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key]


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of the packages; those that are not installed are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
