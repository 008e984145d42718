"""Write docs/dense.md: the first paper's tables of detectors and segmenters, with our counts beside the printed ones.

python docs/dense_page.py
"""

from __future__ import annotations

from pathlib import Path

import torch

from metaformer import count_parameters, create_detector, create_segmenter

PAGE = Path(__file__).with_name("dense.md")

# "MetaFormer Is Actually What You Need for Vision", section 4.2: COCO val2017 after 12 epochs
# backbone: RetinaNet's parameters in millions, AP, AP50, AP75; Mask R-CNN's, box AP, AP50, AP75, mask AP, AP50, AP75
COCO: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "resnet18": ((21.3, 31.8, 49.6, 33.6), (31.2, 34.0, 54.0, 36.7, 31.2, 51.0, 32.7)),
    "poolformer_s12": ((21.7, 36.2, 56.2, 38.2), (31.6, 37.3, 59.0, 40.1, 34.6, 55.8, 36.9)),
    "resnet50": ((37.7, 36.3, 55.3, 38.6), (44.2, 38.0, 58.6, 41.4, 34.4, 55.1, 36.7)),
    "poolformer_s24": ((31.1, 38.9, 59.7, 41.3), (41.0, 40.1, 62.2, 43.4, 37.0, 59.1, 39.6)),
    "resnet101": ((56.7, 38.5, 57.8, 41.2), (63.2, 40.4, 61.1, 44.2, 36.4, 57.7, 38.8)),
    "poolformer_s36": ((40.6, 39.5, 60.5, 41.8), (50.5, 41.0, 63.1, 44.8, 37.7, 60.1, 40.0)),
}
# section 4.3: Semantic FPN on ADE20K val; parameters in millions, mIoU
ADE20K = {
    "resnet18": (15.5, 32.9),
    "pvt_tiny": (17.0, 35.7),
    "poolformer_s12": (15.7, 37.2),
    "resnet50": (28.5, 36.7),
    "pvt_small": (28.2, 39.8),
    "poolformer_s24": (23.2, 40.3),
    "resnet101": (47.5, 38.8),
    "resnext101_32x4d": (47.1, 39.7),
    "pvt_medium": (48.0, 41.6),
    "poolformer_s36": (34.6, 42.0),
    "pvt_large": (65.1, 42.1),
    "poolformer_m36": (59.8, 42.4),
    "resnext101_64x4d": (86.4, 40.2),
    "poolformer_m48": (77.1, 42.7),
}

TEXT = """# Detection and segmentation

Written by `python docs/dense_page.py`. Parameters are counted on the models that `create_detector` and
`create_segmenter` build. The column "in print" and the metrics are from
[MetaFormer Is Actually What You Need for Vision](https://arxiv.org/abs/2111.11418), sections 4.2 and 4.3: COCO
val2017 after 12 epochs, ADE20K val after 40,000 updates. They were not measured here; our own measurements are in
[`results`](../results/README.md).

## COCO: RetinaNet

{retinanet}

## COCO: Mask R-CNN

{mask_rcnn}

## ADE20K: Semantic FPN

{semantic_fpn}

## Where the counts differ

- The detectors on ResNet have more parameters here than in print. The paper counts trained parameters, and it freezes
  the stem and the first stage. Without these the counts agree (`tests/model/dense/test_dense_counts.py`).
- ResNet-18's 15.5 M for Semantic FPN belong to a variant with a stem of three convolutions; timm's stem has one.
- PoolFormer-S24's 23.2 M for Semantic FPN are a misprint: the model has 25.1 M.
"""


def page() -> str:
    """The whole page."""
    with torch.device("meta"):  # shapes are enough to count
        retinanet = [f"{counted('retinanet', name)} | {printed_cells(printed)}" for name, (printed, _) in COCO.items()]
        mask_rcnn = [f"{counted('mask_rcnn', name)} | {printed_cells(printed)}" for name, (_, printed) in COCO.items()]
        fpn = [f"{counted('semantic_fpn', name)} | {printed_cells(printed)}" for name, printed in ADE20K.items()]
    return TEXT.format(
        retinanet=table(["AP", "AP50", "AP75"], retinanet),
        mask_rcnn=table(["box AP", "box AP50", "box AP75", "mask AP", "mask AP50", "mask AP75"], mask_rcnn),
        semantic_fpn=table(["mIoU"], fpn),
    )


def counted(system: str, backbone: str) -> str:
    """The backbone and the exact parameter count of a row."""
    create = create_segmenter if system == "semantic_fpn" else create_detector
    return f"`{backbone}` | {count_parameters(create(system, backbone)):,}"


def printed_cells(printed: tuple[float, ...]) -> str:
    """The printed numbers, parameters first."""
    return " | ".join([f"{printed[0]} M", *(f"{value}" for value in printed[1:])])


def table(heads: list[str], rows: list[str]) -> str:
    """A Markdown table."""
    names = ["backbone", "parameters", "in print", *heads]
    rule = ["---", *["---:"] * (len(names) - 1)]
    return "\n".join([f"| {' | '.join(names)} |", f"| {' | '.join(rule)} |", *(f"| {row} |" for row in rows)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
