"""Name what is on images: python examples/classify.py runs/photos image.jpg ... (or poolformer_s12 for ImageNet)."""

import sys

from metaformer import Predictor

for result in Predictor(sys.argv[1])(sys.argv[2:]):
    print(result.file, result.class_name, f"{result.confidence:.1%}")
