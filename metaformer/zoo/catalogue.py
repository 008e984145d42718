"""All published models by name."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ..errors import InputError, did_you_mean
from . import baselines, cnn, mlp, poolformer, pvt, swin, vit
from .row import Row

_FAMILIES = (poolformer, baselines, vit, pvt, mlp, swin, cnn)

CATALOGUE: dict[str, Row] = {row.name: row for family in _FAMILIES for row in family.ROWS}
"""Every row, family by family: this project's papers, then the systems that they compare with."""


def find(name: str) -> Row:
    """The row of a name.

    Raises:
        InputError: no such model; the message names the nearest.
    """
    if name not in CATALOGUE:
        told = (f"unknown model {name!r}.", did_you_mean(name, CATALOGUE), "`metaformer models` lists them all.")
        raise InputError(" ".join(part for part in told if part))
    return CATALOGUE[name]


def list_models(pattern: str = "*", *, family: str | None = None, pretrained: bool = False) -> list[str]:
    """Names that match a shell pattern, in the papers' order.

    Args:
        pattern: such as ``"poolformer_*"``; a part of a name is enough, in capitals or not.
        family: only this family, such as ``"CAFormer"``.
        pretrained: only models whose weights are published.

    Raises:
        InputError: no such family; the message names the nearest.
    """
    if not isinstance(pattern, str):
        raise InputError(f"pattern: expected a part of a name or a pattern such as 'poolformer_*', got {pattern!r}")
    families = {row.family.lower(): row.family for row in CATALOGUE.values()}
    if family is not None and str(family).lower() not in families:
        raise InputError(f"family: no such family {family!r}. {did_you_mean(str(family), families.values())}".rstrip())
    pattern = pattern.lower()
    if not any(mark in pattern for mark in "*?["):
        pattern = f"*{pattern}*"
    return [
        row.name
        for row in CATALOGUE.values()
        if fnmatchcase(row.name, pattern)
        and (family is None or row.family.lower() == family.lower())
        and (row.weights or not pretrained)
    ]
