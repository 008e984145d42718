"""The optimizer of a recipe: timm's, with timm's parameter groups.

In: a model and how its weights should move. Out: a ``torch.optim.Optimizer`` whose groups separate decayed from
undecayed tensors and, with layer decay, carry an ``lr_scale`` for each layer.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer

from ..errors import RunError, did_you_mean
from ..recipe import OptimizerConfig


def build_optimizer(model: nn.Module, optimizer: OptimizerConfig, device: torch.device | str = "cpu") -> Optimizer:
    """The optimizer named in ``optimizer`` over the trainable tensors of ``model``.

    One-dimensional tensors, biases and ``model.no_weight_decay()`` are not decayed, unless everything is to be.
    ``layer_decay`` multiplies the rate once more for each layer further from the head, in the order of
    ``model.group_matcher()``. ``device`` is where the model is going to be trained. Raises ``RunError`` for an unknown
    optimizer, with the nearest names.
    """
    _expect_known(optimizer.name)
    moments: dict[str, Any] = {"betas": optimizer.betas, "eps": optimizer.eps}
    if torch.device(device).type == "cpu" and optimizer.name.lower() == "adamw":
        # one pass over each tensor in place of ten: a quarter of the time. PyTorch leaves that to us on the CPU; a
        # state of before keeps the way it was begun, since the choice is saved with the groups
        moments["fused"] = True
    try:
        return create_optimizer_v2(
            model,
            opt=optimizer.name,
            lr=optimizer.peak_lr,
            weight_decay=optimizer.weight_decay,
            layer_decay=optimizer.layer_decay,
            filter_bias_and_bn=not optimizer.decay_everything,
            **{name: value for name, value in moments.items() if value is not None},
        )
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise RunError(f"optimizer.name: {optimizer.name!r} cannot be built: {error}") from None


def _expect_known(name: str) -> None:
    """Names are timm's, in lower case, optionally with ``lookahead_`` in front."""
    known = [str(known) for known in list_optimizers()]
    if name.lower().removeprefix("lookahead_") not in known:
        near = did_you_mean(name.lower(), known) or "timm.optim.list_optimizers() names them all."
        raise RunError(f"optimizer.name: expected one of timm's optimizers, got {name!r}. {near}")
