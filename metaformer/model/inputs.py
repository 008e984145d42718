"""Inputs of a backbone as tokens on a grid: the pixels of images, or the ids of sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..types import Grid
from .tokens import to_tokens


class Pixels(nn.Module):
    """An image as tokens: one a pixel, its channels as the width."""

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__()
        self.in_chans = in_chans

    def forward(self, images: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) to (B, H·W, C) and the grid (H, W)."""
        check_images(images, self.in_chans)
        return to_tokens(images), (images.shape[2], images.shape[3])


class TokenIds(nn.Module):
    """Sequences of token ids, which the first embedding looks up."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size

    def forward(self, ids: Tensor) -> tuple[Tensor, Grid]:
        """(B, L) whole numbers, as they are, and the grid (L,)."""
        check_ids(ids, self.vocab_size)
        return ids, (ids.shape[1],)


def check_images(images: Tensor, in_chans: int) -> None:
    """Refuse anything but a batch of images with ``in_chans`` channels in floating-point numbers."""
    if not isinstance(images, Tensor):
        raise InputError(
            f"images: expected one tensor (batch, {in_chans}, height, width), got a {type(images).__name__}; "
            "torch.stack joins images of one size"
        )
    if images.ndim != 4 or images.shape[1] != in_chans:
        raise InputError(
            f"images: expected (batch, {in_chans}, height, width), got {tuple(images.shape)}; "
            "create_model(..., in_chans=...) builds a model for images with other channels."
        )
    if not images.is_floating_point():
        raise InputError(
            f"images: expected floating-point numbers, got {images.dtype}; model.preprocessing says how images are "
            "prepared: scaled to [0, 1], then mean and std"
        )


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Refuse anything but a batch of token ids of a vocabulary of ``vocab_size``."""
    if not isinstance(ids, Tensor):
        raise InputError(f"ids: expected one tensor (batch, length), got a {type(ids).__name__}")
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise InputError(f"ids: expected (batch, length) with at least one token, got {tuple(ids.shape)}")
    if ids.dtype not in (torch.int64, torch.int32):
        raise InputError(f"ids: expected int64 or int32, got {ids.dtype}")
    # On a GPU reading values would wait for all earlier work, and exporters cannot follow it. PyTorch itself refuses an
    # index out of range there, less clearly.
    if ids.device.type == "cpu" and ids.numel() and not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= vocab_size:
            raise InputError(
                f"ids: expected 0 to {vocab_size - 1}, got {low} to {high}: the tokenizer has another vocabulary than "
                "the model"
            )
