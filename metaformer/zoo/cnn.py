"""The CNNs that the first paper compares with: ResNet, ResNeXt and RegNetY, built by timm.

ResNets are of "ResNet strikes back", procedure A2 (300 epochs), whose 224-pixel accuracies the paper prints: timm's
``a2_in1k``. timm's default weights of a ResNet are often of another training (A1, 600 epochs) and are not the
table's. Accuracies of ResNeXt and RegNetY are timm's evaluation of these very weights at 224 pixels.

``macs`` are the products that ``count_macs`` counts, without operations of norms, since batch norms
can be folded into the convolutions. Preprocessing is timm's of these tags: ResNets at crop 0.95 and 224 pixels (timm's
second setting, 288 pixels, gives other accuracies).
"""

from __future__ import annotations

from ..spec.model import TimmSpec
from ..types import Preprocessing
from .published_model import PublishedModel, TableEntry, WeightSource

_TABLE = "2111.11418, table 2"
_RSB_FILES = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-rsb-weights/"
_RSB_NOTE = "Weights of recipe A2, 300 epochs, as in the table; timm's default weights may use another recipe."

# depth: parameters, products (10⁹), the line in print, mark of timm's first file
_RESNETS = {
    18: (11_689_512, 1.814, TableEntry(parameters=12, macs=1.8, top1=70.6, source=_TABLE), "b61bd467"),
    34: (21_797_672, 3.664, TableEntry(parameters=22, macs=3.7, top1=75.5, source=_TABLE), "82d47d71"),
    50: (25_557_032, 4.089, TableEntry(parameters=26, macs=4.1, top1=79.8, source=_TABLE), "a2746f79"),
    101: (
        44_549_160, 7.801, TableEntry(
            parameters=45, macs=7.9, top1=81.3, source=_TABLE, note="products alone are 7.8"
        ), "6edb36c7",
    ),
    152: (
        60_192_808, 11.514, TableEntry(
            parameters=60, macs=11.6, top1=81.8, source=_TABLE, note="products alone are 11.5"
        ), "b4c6978f",
    ),
}  # fmt: skip


def _resnet(depth: int) -> PublishedModel:
    parameters, macs, published, mark = _RESNETS[depth]
    name = f"resnet{depth}"
    file = f"{name}_a2_0-{mark}.pth"
    return PublishedModel(
        name=name,
        family="ResNet (RSB A2)",
        spec=TimmSpec(architecture=name),
        parameters=parameters,
        macs=macs,
        top1=published.top1,
        preprocessing=Preprocessing(crop=0.95),
        weights=(WeightSource(repo=f"timm/{name}.a2_in1k"), WeightSource(url=_RSB_FILES + file, file=file)),
        paper="2110.00476",
        note=_RSB_NOTE,
        published=published,
    )


_GLUON_FILES = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/"
_GLUON_MARKS = {"resnext101_32x4d": "b253c8c4", "resnext101_64x4d": "f9a8e184"}
# name: family, tag of the weights, parameters, products (10⁹), top-1, paper
_OTHERS = {
    "resnext101_32x4d": ("ResNeXt", "gluon_in1k", 44_177_704, 7.970, 80.336, "1611.05431"),
    "resnext101_64x4d": ("ResNeXt", "gluon_in1k", 83_455_272, 15.460, 80.640, "1611.05431"),
    "regnety_040": ("RegNetY", "pycls_in1k", 20_646_656, 3.973, 79.246, "2003.13678"),
    "regnety_080": ("RegNetY", "pycls_in1k", 39_180_068, 7.963, 79.874, "2003.13678"),
    "regnety_160": ("RegNetY", "pycls_in1k", 83_590_140, 15.912, 80.284, "2003.13678"),
}


def _other(name: str) -> PublishedModel:
    family, tag, parameters, macs, top1, paper = _OTHERS[name]
    return PublishedModel(
        name=name,
        family=family,
        spec=TimmSpec(architecture=name),
        parameters=parameters,
        macs=macs,
        top1=top1,
        preprocessing=Preprocessing(crop=0.875),
        weights=(WeightSource(repo=f"timm/{name}.{tag}"), *_gluon_file(name)),
        paper=paper,
        note="The accuracy is timm's evaluation of these weights at 224 pixels, not the paper's own.",
    )


def _gluon_file(name: str) -> tuple[WeightSource, ...]:
    if name not in _GLUON_MARKS:
        return ()
    file = f"gluon_{name}-{_GLUON_MARKS[name]}.pth"
    return (WeightSource(url=_GLUON_FILES + file, file=file),)


MODELS = (*(_resnet(depth) for depth in _RESNETS), *(_other(name) for name in _OTHERS))
