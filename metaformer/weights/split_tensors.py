"""Tensors that other libraries store in parts: a class and a distillation token, or query, key and value.

In: tensors under our names, where ``NAME#1/3`` is the second third of ``NAME``. Out: whole tensors, or the parts again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

PART_MARK = "#"
"""Separates the name of a tensor from ``k/n``, the part of it that is meant."""


def whole_name(name: str) -> str:
    """The name of the tensor that a part belongs to."""
    return name.partition(PART_MARK)[0]


def join_parts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors, with complete sets of parts joined; parts that lack a sibling or differ in shape are kept."""
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        base, mark, part = name.partition(PART_MARK)
        count = int(part[-1]) if mark else 1
        parts = [found for k in range(count) if (found := tensors.get(f"{base}{PART_MARK}{k}/{count}")) is not None]
        if len(parts) == count and len({found.shape for found in parts}) == 1:
            whole[base] = whole[base] if base in whole else torch.cat(parts, _axis(base))
        else:
            whole[name] = tensor
    return whole


def split_part(name: str, tensor: Tensor) -> Tensor:
    """What ``NAME#k/n`` stands for: part k of n equal ones. A name without a part stands for the whole tensor."""
    base, mark, part = name.partition(PART_MARK)
    if not mark:
        return tensor
    k, count = (int(number) for number in part.split("/"))
    return tensor.chunk(count, _axis(base))[k].contiguous()


def _axis(name: str) -> int:
    """Prefix tokens (1, P, C) are joined along the tokens, all others along their rows."""
    return 1 if name.endswith("prefix.tokens") else 0
