"""Parameters that an optimizer treats apart, by timm's conventions: no weight decay, a learning rate for each layer."""

from __future__ import annotations

from torch import nn

Patterns = dict[str, str | list[tuple[str, tuple[int, ...] | None]]]
"""Regular expressions for parameter names, by group: what timm's ``group_matcher`` of a model returns."""

TABLES = ("position.table", "prefix.tokens", "relative.table")
"""Parameters with two axes that are no weight matrices and are not decayed, as in timm."""


def without_decay(model: nn.Module) -> set[str]:
    """Parameters that are not decayed, beyond the one-dimensional ones: positions and prefix tokens."""
    return {name for name, _ in model.named_parameters() if name.endswith(TABLES)}


def layer_patterns(backbone: str, coarse: bool) -> Patterns:
    """Parameter names to layers: a layer for each block of a backbone, or for each stage where ``coarse``.

    ``backbone`` is a regular expression for what the backbone's parameter names begin with.
    """
    stage, entry = rf"^{backbone}stages\.(\d+)", r"\.(?:embed|prefix|position|entry)"
    block = stage if coarse else rf"{stage}\.blocks\.(\d+)"
    return {
        "stem": rf"^{backbone}stages\.0{entry}",
        # The embedding of a later stage has no block number; it gets the learning rate of the stage's first block.
        "blocks": block if coarse else [(stage + entry, (0,)), (block, None)],
    }
