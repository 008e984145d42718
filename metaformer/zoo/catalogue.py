"""The table of published models, by name."""

from __future__ import annotations

from fnmatch import fnmatchcase

from ..errors import InputError, did_you_mean
from . import baselines, cnn, mlp, poolformer, pvt, swin, vit
from .published_model import PublishedModel

_FAMILIES = (poolformer, baselines, vit, pvt, mlp, swin, cnn)

CATALOGUE: dict[str, PublishedModel] = {model.name: model for family in _FAMILIES for model in family.MODELS}
"""All published models, by family: those of the two MetaFormer papers, then those that they compare with."""


def find(name: str) -> PublishedModel:
    """A published model by name.

    Raises:
        InputError: no such model; the message names the nearest.
    """
    if name not in CATALOGUE:
        sentences = (f"unknown model {name!r}.", did_you_mean(name, CATALOGUE), "`metaformer models` lists them all.")
        raise InputError(" ".join(sentence for sentence in sentences if sentence))
    return CATALOGUE[name]


def list_models(pattern: str = "*", *, family: str | None = None, pretrained: bool = False) -> list[str]:
    """Names that match a shell pattern, in the papers' order.

    Args:
        pattern: such as ``"poolformer_*"``; a part of a name matches too. Upper and lower case are the same.
        family: only models of this family, such as ``"CAFormer"``.
        pretrained: only models whose weights are published.

    Raises:
        InputError: no such family; the message names the nearest.
    """
    if not isinstance(pattern, str):
        raise InputError(f"pattern: expected a part of a name or a pattern such as 'poolformer_*', got {pattern!r}")
    families = {model.family.lower(): model.family for model in CATALOGUE.values()}
    if family is not None and str(family).lower() not in families:
        raise InputError(f"family: no such family {family!r}. {did_you_mean(str(family), families.values())}".rstrip())
    pattern = pattern.lower()
    if not any(mark in pattern for mark in "*?["):
        pattern = f"*{pattern}*"
    return [
        model.name
        for model in CATALOGUE.values()
        if fnmatchcase(model.name, pattern)
        and (family is None or model.family.lower() == family.lower())
        and (model.weights or not pretrained)
    ]
