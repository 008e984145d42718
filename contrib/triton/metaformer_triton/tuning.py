"""Tile sizes to choose from, and how the choice is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import triton

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether kernels are run by Triton's interpreter on the CPU (``TRITON_INTERPRET=1`` when Triton was imported)."""


def tiles(choices: Sequence[dict[str, int]], small: dict[str, int]) -> list[Any]:
    """Configurations for ``triton.autotune``: tile sizes with ``warps`` and ``stages``.

    The interpreter has no clock to tune by and takes one: ``small``, in which even tiny inputs fill several tiles.
    """
    if INTERPRETED:
        return [triton.Config(small)]
    return [
        triton.Config(
            {name: size for name, size in choice.items() if name.isupper()},
            num_warps=choice["warps"],
            num_stages=choice.get("stages", 2),
        )
        for choice in choices
    ]


def smallest(kernel: Any, name: str) -> int:
    """The smallest size of a tile that tuning may take: buffers of partial sums are made for it."""
    return min(config.kwargs[name] for config in kernel.configs)


def size_class(count: int) -> int:
    """The key by which tuning tells inputs apart: the power of two above their size.

    With the size itself, a smaller last batch or images of many shapes would be tuned for again and again.
    """
    return count.bit_length()
