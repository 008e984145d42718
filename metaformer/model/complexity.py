"""How large and how costly a model is: exact parameters, and multiply-adds by PyTorch's own counter.

``count_macs`` counts the products of convolutions, linear layers and attention, as the papers do. It leaves out
norms, activations, pooling and additions. fvcore, which the published figures come from, adds five operations for
every element of a library norm (10,411,520 of PoolFormer-S12's 1,822,678,528) and misses fused attention.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

_COMPUTED = 64 * 64
"""Pixels up to which an image is sent through the model as it is. That is quicker than following shapes, and a sweep
of short runs counts in every one of them."""


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Number of parameters, all of them or only the trained ones."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def count_macs(model: nn.Module, size: tuple[int, int] | None = None, in_chans: int | None = None) -> int:
    """Multiply-adds for one image; of a large one only shapes are followed, nothing is computed.

    Args:
        model: a classifier, a segmenter, or any module of images; of a detector, what it computes at every place.
        size: height and width; the model's own where left out, a square of the short side for detection and
            segmentation.
        in_chans: channels; the model's own, or 3.
    """
    spec = getattr(model, "spec", None)
    height, width = size or (spec.img_size if spec is not None else (224, 224))
    channels = in_chans or (spec.in_chans if spec is not None else 3)
    shadow = copy.deepcopy(model).eval()
    device = next((tensor.device for tensor in shadow.parameters()), torch.device("cpu"))
    if height * width > _COMPUTED:
        shadow, device = shadow.to("meta"), torch.device("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run = getattr(shadow, "everywhere", shadow)
        run(torch.zeros(1, channels, height, width, device=device))
    return counter.get_total_flops() // 2
