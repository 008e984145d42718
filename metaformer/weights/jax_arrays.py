"""Google's JAX files (.npz) of ViT and MLP-Mixer: arrays to tensors that are laid out as PyTorch's layers hold them.

In: a zip of numpy arrays. Out: tensors by the names they have there. JAX keeps kernels as (in, out), convolutions as
(k, k, in, out), and heads as an axis of their own.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ENDING = ".npy"


def holds_arrays(path: Path) -> bool:
    """Whether a zip file is one of numpy arrays."""
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    return bool(names) and all(name.endswith(ENDING) for name in names)


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of a file as tensors; arrays of Python objects, which are pickles, are refused.

    Raises:
        ValueError: an array that is not of numbers.
    """
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(_turned(name, arrays[name]).copy()) for name in arrays.files}


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    """A kernel or a bias as a layer of PyTorch has it."""
    if not name.endswith("/kernel"):
        return array.reshape(-1) if name.endswith("/bias") else array
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if name.endswith("/out/kernel"):  # (heads, d, out)
        return array.reshape(-1, array.shape[-1]).T
    return array.reshape(array.shape[0], -1).T  # (in, heads, d), or (in, out)
