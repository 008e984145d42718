"""scikit-learn's 1,797 handwritten digits: gray, 8 × 8, ten classes, no download."""

from __future__ import annotations

import numpy as np

from ..recipe import DataConfig
from .sets import ArrayDataset, ImageSplits, hold_out


def open_digits(choice: DataConfig) -> ImageSplits:
    """The digits, split within each class by ``choice.val_fraction`` and ``choice.split_seed``."""
    from sklearn.datasets import load_digits  # slow to import, and nothing else needs it

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # published as 0 to 16
    labels = [int(label) for label in digits.target]
    classes = tuple(str(name) for name in digits.target_names)

    def part(positions: list[int]) -> ArrayDataset:
        return ArrayDataset(pixels[positions], [labels[i] for i in positions], "digits", positions)

    train, val = hold_out(labels, classes, choice.val_fraction, choice.split_seed)
    return ImageSplits(part(train), part(val), classes, channels=1, native_size=(8, 8))
