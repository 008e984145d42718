"""A model for an inference engine: compiled in one call, exported to files and read again.

    python examples/export.py

Runs on OpenVINO or ONNX Runtime if one is installed (pip install 'metaformer[openvino]' or 'metaformer[export]'), else
on PyTorch.
"""

import tempfile
from pathlib import Path

import torch

import metaformer
from metaformer.recipe import DataConfig

torch.manual_seed(0)
model = metaformer.create_model("resmlp_12_224", num_classes=10, in_chans=1, img_size=8, stem_stride=2).eval()

fast = metaformer.compile(model)
images = torch.randn(4, 1, 8, 8)
with torch.no_grad():
    difference = (fast(images) - model(images)).abs().max()
print(f"compiled  {fast.precision}, scores within {'1e-4' if difference < 1e-4 else f'{difference:.0e}'}")

with tempfile.TemporaryDirectory() as folder:
    weights = metaformer.save_weights(model, Path(folder) / "weights.safetensors", classes=[str(i) for i in range(10)])
    digits = DataConfig(source="digits")
    result = metaformer.export(weights, Path(folder) / "exported", format="torch", data=digits)
    again = metaformer.load_exported(result.folder)
    compared = result.comparison.images
    print(f"exported  {result.info.format}, compared on {compared} images, {tuple(again(images).shape)} scores")
