"""Name what is on a picture with published weights.

    python examples/classify.py picture.jpg [model]

The weights are downloaded once. Without a picture it shows the preprocessing of the model and scores a grey square
with random weights: a dry run that needs no network.
"""

import sys

import torch
from PIL import Image

from metaformer import create_model
from metaformer.data.transforms.image import evaluation_transform


def top_five(picture: Image.Image, name: str, pretrained: bool) -> list[tuple[int, float]]:
    """(class index, probability) of the five likeliest of ImageNet's 1000 classes."""
    model = create_model(name, pretrained=pretrained).eval()
    pixels = evaluation_transform(model.preprocessing)(picture)  # (3, 224, 224), normalised
    with torch.no_grad():
        probabilities = model(pixels[None]).softmax(-1)[0]
    best = probabilities.topk(5)
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


if __name__ == "__main__":
    files, name = sys.argv[1:2], (sys.argv[2] if len(sys.argv) > 2 else "poolformer_s12")
    picture = Image.open(files[0]).convert("RGB") if files else Image.new("RGB", (320, 240), "grey")
    print(f"{name}, {'published' if files else 'random'} weights")
    for index, probability in top_five(picture, name, pretrained=bool(files)):
        print(f"class {index:>4}  {probability:7.2%}  {'█' * round(40 * probability)}")
