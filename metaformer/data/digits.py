"""scikit-learn's 1,797 handwritten digits: gray, 8 × 8, ten classes, no download."""

from __future__ import annotations

import numpy as np

from ..recipe import DataConfig
from .dataset import ArrayDataset, Splits, hold_out_by_class


def open_digits(config: DataConfig) -> Splits[int]:
    """The digits, split within each class by ``config.val_fraction`` and ``config.split_seed``."""
    from sklearn.datasets import load_digits  # slow to import, and no other module needs it

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # published as 0 to 16
    labels = [int(label) for label in digits.target]
    classes = tuple(str(name) for name in digits.target_names)

    def part(indices: list[int]) -> ArrayDataset:
        return ArrayDataset(pixels[indices], [labels[i] for i in indices], "digits", indices)

    train, val = hold_out_by_class(labels, classes, config.val_fraction, config.split_seed)
    return Splits(part(train), part(val), classes, channels=1, native_size=(8, 8))
