"""The maps of the four stages, as detectors and segmenters read them, and the vector that describes a whole image.

    python examples/features.py [model]

Random weights, no network; add ``pretrained=True`` for the published ones.
"""

import sys

import torch

from metaformer import create_model

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "poolformer_s12"
    images = torch.randn(2, 3, 192, 256)  # height and width need not be equal

    backbone = create_model(name, features_only=True, out_indices=(0, 1, 2, 3)).eval()
    with torch.no_grad():
        maps = backbone(images)
    for stage, (channels, reduction, found) in enumerate(
        zip(backbone.feature_info.channels(), backbone.feature_info.reduction(), maps, strict=True)
    ):
        print(f"stage {stage}: {channels} channels, 1/{reduction} of the image's side, map {tuple(found.shape)}")

    embedder = create_model(name, num_classes=0).eval()
    with torch.no_grad():
        print(f"one vector an image: {tuple(embedder(images).shape)}")
