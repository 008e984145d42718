"""Tensors that others store in pieces: a class and a distillation token, or query, key and value.

In: tensors by our names, where ``NAME#1/3`` is the second third of ``NAME``. Out: whole ones, or the pieces again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

PIECE = "#"
"""What stands between the name of a tensor and ``k/n``, the part of it that is meant."""
_PREFIX = "prefix.tokens"


def whole_name(name: str) -> str:
    """The name of the tensor that a piece belongs to."""
    return name.partition(PIECE)[0]


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors with the pieces put together; pieces that are not complete, or do not fit together, stay."""
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        base, sign, part = name.partition(PIECE)
        count = int(part[-1]) if sign else 1
        pieces = [found for k in range(count) if (found := tensors.get(f"{base}{PIECE}{k}/{count}")) is not None]
        if len(pieces) == count and len({found.shape for found in pieces}) == 1:
            whole[base] = whole[base] if base in whole else torch.cat(pieces, _axis(base))
        else:
            whole[name] = tensor
    return whole


def piece(name: str, tensor: Tensor) -> Tensor:
    """What ``NAME#k/n`` stands for: part k of n equal ones. A name without a piece stands for the whole."""
    base, sign, part = name.partition(PIECE)
    if not sign:
        return tensor
    k, count = (int(number) for number in part.split("/"))
    return tensor.chunk(count, _axis(base))[k].contiguous()


def _axis(name: str) -> int:
    """Prefix tokens (1, P, C) are joined along the tokens, all others along their rows."""
    return 1 if name.endswith(_PREFIX) else 0
