"""Name what is on an image with published weights.

    python examples/classify.py image.jpg [model]

The weights are downloaded once. Without an image it shows the preprocessing of the model and scores a gray square
with random weights: a dry run that needs no network.
"""

import sys

import torch
from PIL import Image

from metaformer import create_model
from metaformer.data.transforms.image import evaluation_transform


def top_five(image: Image.Image, name: str, pretrained: bool) -> list[tuple[int, float]]:
    """(class index, probability) of the five likeliest of ImageNet's 1000 classes."""
    model = create_model(name, pretrained=pretrained).eval()
    pixels = evaluation_transform(model.preprocessing)(image)  # (3, 224, 224), normalized
    with torch.no_grad():
        probabilities = model(pixels[None]).softmax(-1)[0]
    best = probabilities.topk(5)
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


if __name__ == "__main__":
    files, name = sys.argv[1:2], (sys.argv[2] if len(sys.argv) > 2 else "poolformer_s12")
    image = Image.open(files[0]).convert("RGB") if files else Image.new("RGB", (320, 240), "gray")
    print(f"{name}, {'published' if files else 'random'} weights")
    for index, probability in top_five(image, name, pretrained=bool(files)):
        print(f"class {index:>4}  {probability:7.2%}  {'█' * round(40 * probability)}")
