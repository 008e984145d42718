"""Entry points for ``torch.hub``: every published model by its name, with ``create_model``'s arguments.

torch.hub.load("OWNER/metaformer", "poolformer_s12", pretrained=True)
torch.hub.load("path/to/metaformer", "caformer_s18", source="local", num_classes=10)
"""

from functools import partial as _partial

from metaformer.factory.classifier import create_model
from metaformer.zoo.catalogue import list_models

dependencies = ["torch", "torchvision", "timm", "safetensors", "huggingface_hub"]

for _name in list_models():
    globals()[_name] = _partial(create_model, _name)
    globals()[_name].__doc__ = f"{_name}; the arguments are those of create_model."
