"""Size and cost of a model: its parameters, and its multiply-adds by PyTorch's counter.

``count_macs`` counts the products of convolutions, linear layers and attention, as the papers do, and no norms,
activations, pooling or additions. The published numbers are fvcore's, which adds five operations for every element of a
library norm (10,411,520 of PoolFormer-S12's 1,822,678,528) and misses fused attention.
"""

from __future__ import annotations

import copy
from math import prod

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..errors import InputError
from ..spec.input import ImageInput
from ..types import Grid

_COMPUTED = 64 * 64
"""Pixels or tokens up to which the model really runs. For small inputs that is faster than tracing shapes on the meta
device, and every run of a sweep counts once."""


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Number of parameters, of all or of those that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def count_macs(model: nn.Module, size: Grid | None = None, in_chans: int | None = None) -> int:
    """Multiply-adds for one image or one sequence. For a large one only shapes are traced, on the meta device.

    Args:
        model: a classifier, a segmenter, or any module of images; of a detector only the part that is
            computed at every place.
        size: height and width, or ``(length,)`` in tokens; the model's own by default, a square of the short side
            for detection and segmentation.
        in_chans: channels of an image; the model's own, or 3.
    """
    spec = getattr(model, "spec", None)
    given = ImageInput() if spec is None else spec.input
    grid = given.grid if size is None else tuple(size)
    wanted = "(height, width)" if isinstance(given, ImageInput) else "(length,)"
    if len(grid) != len(given.grid):
        raise InputError(f"size: expected {wanted}, got {size}")
    shadow = copy.deepcopy(model).eval()  # moving the model itself to the meta device would drop its weights
    device = next((tensor.device for tensor in shadow.parameters()), torch.device("cpu"))
    if prod(grid) > _COMPUTED:
        shadow, device = shadow.to("meta"), torch.device("meta")
    if isinstance(given, ImageInput):
        inputs = torch.zeros(1, in_chans or given.in_chans, *grid, device=device)
    else:
        inputs = torch.zeros(1, *grid, dtype=torch.int64, device=device)
    # Plain attention: of the fused kernels the counter knows only some.
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        getattr(shadow, "forward_dense", shadow)(inputs)
    return counter.get_total_flops() // 2  # the counter takes a product and a sum for two operations
