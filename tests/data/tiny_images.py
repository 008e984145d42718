"""An image of noise, the same for the same seed."""

from __future__ import annotations

import numpy as np
from PIL import Image


def noise(seed: int, height: int = 12, width: int = 10, channels: int = 3) -> Image.Image:
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0])
