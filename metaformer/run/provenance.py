"""Where results come from: the commit, the processor and the installed versions, for config.json and bench.json."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@cache
def commit() -> str | None:
    """The short hash of the checkout that this library runs from, with a ``+`` if files differ from it.

    None outside of a checkout: an installed wheel must not report the repository that it happens to lie in.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    # --exclude=* leaves out tags: the hash alone, always in the same form.
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_name() -> str:
    """The processor's name as the system reports it."""
    return next(iter(cpuinfo("model name")), "") or platform.processor() or platform.machine()


def cpuinfo(key: str) -> list[str]:
    """The value of one key of /proc/cpuinfo for each core; empty on systems other than Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key]


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
