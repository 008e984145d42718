"""The optimizer of a recipe: timm's, with timm's parameter groups.

In: a model and the recipe's optimizer section. Out: a ``torch.optim.Optimizer`` whose groups separate tensors with
weight decay from those without and, with layer decay, have an ``lr_scale`` for each layer.
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
    """The optimizer named in ``optimizer``, over the trainable tensors of ``model``.

    One-dimensional tensors, biases and ``model.no_weight_decay()`` get no weight decay, unless ``decay_everything`` is
    set. ``layer_decay`` multiplies the learning rate once more for each layer further from the head, in the order of
    ``model.group_matcher()``. ``device`` is where the model will be trained. Raises ``RunError`` for an unknown
    optimizer, with the nearest names.
    """
    known = [str(name) for name in list_optimizers()]
    if optimizer.name.lower().removeprefix("lookahead_") not in known:  # timm wraps any optimizer in Lookahead
        near = did_you_mean(optimizer.name.lower(), known) or "timm.optim.list_optimizers() lists them all."
        raise RunError(f"optimizer.name: expected one of timm's optimizers, got {optimizer.name!r}. {near}")
    options: dict[str, Any] = {"betas": optimizer.betas, "eps": optimizer.eps}
    if torch.device(device).type == "cpu" and optimizer.name.lower() == "adamw":
        # one pass over each tensor in place of ten takes a quarter of the time, but PyTorch never chooses it by itself
        # on CPUs. An older checkpoint keeps its own choice, since parameter groups are saved with it
        options["fused"] = True
    try:
        return create_optimizer_v2(
            model,
            opt=optimizer.name,
            lr=optimizer.peak_lr,
            weight_decay=optimizer.weight_decay,
            layer_decay=optimizer.layer_decay,
            filter_bias_and_bn=not optimizer.decay_everything,
            # optimizers without betas or eps refuse the argument, so None leaves it out
            **{name: value for name, value in options.items() if value is not None},
        )
    except (TypeError, ValueError, AssertionError, ImportError) as error:  # whatever timm raises for bad options
        raise RunError(f"optimizer.name: {optimizer.name!r} cannot be built: {error}") from None
