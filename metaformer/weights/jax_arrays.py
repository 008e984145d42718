"""Google's JAX files (.npz) of ViT and MLP-Mixer: arrays to tensors with the axes of PyTorch's layers.

In: a zip of numpy arrays. Out: tensors by the names they have there, kernels and scales as weights. JAX keeps kernels
as (in, out), convolutions as (k, k, in, out), and heads as an axis of their own.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def holds_arrays(path: Path) -> bool:
    """Whether a zip file is one of numpy arrays."""
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of a file as tensors; arrays of Python objects, which are pickles, are refused.

    Raises:
        ValueError: an array that is not of numbers.
    """
    with np.load(path, allow_pickle=False) as arrays:
        return {
            re.sub("/(kernel|scale)$", "/weight", name): torch.from_numpy(_with_our_axes(name, arrays[name]).copy())
            for name in arrays.files
        }


def _with_our_axes(name: str, array: np.ndarray) -> np.ndarray:
    if not name.endswith("/kernel"):
        return array.reshape(-1) if name.endswith("/bias") else array
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    # attention keeps heads as an axis: (heads, d, out) where they are joined, (in, heads, d) where they are made
    joins_heads = name.endswith("/out/kernel")
    return (array.reshape(-1, array.shape[-1]) if joins_heads else array.reshape(array.shape[0], -1)).T
