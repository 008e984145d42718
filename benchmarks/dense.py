"""Speed of detection and segmentation on PoolFormer-S12 and on the ResNet-18 of the same tables.

    python benchmarks/dense.py                     # everything, about twenty minutes on two cores
    python benchmarks/dense.py --rounds 3 --side 256
    python benchmarks/dense.py --only evaluation   # COCO's metrics on 5,000 images

Each pair runs in turns in one process, one call of each, the order reversed every round; a ratio is the median over the
rounds of (first time / second time). Pairs: RetinaNet and Mask R-CNN with PoolFormer-S12 against torchvision's own
classes with its ResNet-18 and feature pyramid (the paper's baseline, nearest in parameters); Semantic FPN with
PoolFormer-S12 against the same with ResNet-18, and against segmentation_models_pytorch's FPN on timm's PoolFormer-S12.
A training step is forward, losses and backward with two images of eight objects each; inference is evaluation
mode on one image. The weights are random, and Mask R-CNN's regions and RetinaNet's detections depend on them. So a
detector's inference is timed with a score threshold that hardly any detection reaches.

Evaluation: 5,000 images with 7 random objects and 20 random detections each, through the task's own metric and
through pycocotools, once.

No other program should run. The result, with hardware and versions, is written to dense.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN, _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from metaformer import create_detector, create_segmenter
from metaformer.benchmark.machine import machine
from metaformer.model.complexity import count_parameters
from metaformer.tasks.detection.objective import DetectionObjective
from metaformer.types import Batch

OUT = Path(__file__).with_suffix(".json")
CLASSES, OBJECTS = 80, 8


@dataclass(frozen=True)
class Contender:
    """A model, and how it is called."""

    name: str
    make: Callable[[int], nn.Module]
    """Builds it for images of a side."""
    detects: bool
    first_label: int = 0
    """The smallest label in training."""


def torchvision_retinanet(side: int) -> nn.Module:
    """torchvision's class with a ResNet-18 whose stages 2 to 4 enter the pyramid."""
    body = _resnet_fpn_extractor(
        resnet18(weights=None), 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(512, 256)
    )
    return RetinaNet(body, CLASSES, min_size=side, max_size=side)


def torchvision_mask_rcnn(side: int) -> nn.Module:
    """torchvision's class with a ResNet-18; it counts the background as a class."""
    body: BackboneWithFPN = _resnet_fpn_extractor(resnet18(weights=None), 5)
    return MaskRCNN(body, CLASSES + 1, min_size=side, max_size=side)


def detector(system: str) -> Callable[[int], nn.Module]:
    """Ours."""
    return lambda side: create_detector(system, "poolformer_s12", CLASSES, short_side=side, long_side=side)


def segmenter(backbone: str) -> Callable[[int], nn.Module]:
    """Ours."""
    return lambda side: create_segmenter("semantic_fpn", backbone, 150, short_side=side, long_side=side)


def smp_fpn(side: int) -> nn.Module:
    """segmentation_models_pytorch's FPN: group norm in place of batch norm, no 3 × 3 convolutions in the pyramid."""
    return segmentation_models_pytorch.FPN("tu-poolformer_s12", encoder_weights=None, classes=150)


PAIRS = (
    (
        Contender("RetinaNet, PoolFormer-S12", detector("retinanet"), True),
        Contender("torchvision's RetinaNet, ResNet-18", torchvision_retinanet, True),
    ),
    (
        Contender("Mask R-CNN, PoolFormer-S12", detector("mask_rcnn"), True),
        Contender("torchvision's Mask R-CNN, ResNet-18", torchvision_mask_rcnn, True, first_label=1),
    ),
    (
        Contender("Semantic FPN, PoolFormer-S12", segmenter("poolformer_s12"), False),
        Contender("Semantic FPN, ResNet-18", segmenter("resnet18"), False),
    ),
    (
        Contender("Semantic FPN, PoolFormer-S12", segmenter("poolformer_s12"), False),
        Contender("segmentation_models_pytorch's FPN, timm's PoolFormer-S12", smp_fpn, False),
    ),
)


def scene(side: int, first_label: int) -> dict[str, Tensor]:
    """Eight boxes with masks, none smaller than a sixteenth of the side."""
    corners = torch.rand(OBJECTS, 2) * side * 0.6
    boxes = torch.cat([corners, corners + side / 16 + torch.rand(OBJECTS, 2) * side * 0.3], dim=1)
    masks = torch.zeros(OBJECTS, side, side, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return {"boxes": boxes, "labels": torch.randint(CLASSES, (OBJECTS,)) + first_label, "masks": masks}


def training_step(contender: Contender, model: nn.Module, side: int) -> Callable[[], None]:
    """Forward, loss, backward with two images."""
    torch.manual_seed(0)
    if contender.detects:
        images = [torch.rand(3, side, side) for _ in range(2)]
        targets = [scene(side, contender.first_label) for _ in images]

        def losses() -> Tensor:
            return sum(model(images, [dict(target) for target in targets]).values(), start=torch.zeros(()))
    else:
        batch, labels = torch.randn(2, 3, side, side), torch.randint(150, (2, side, side))

        def losses() -> Tensor:
            return nn.functional.cross_entropy(model(batch), labels)

    def step() -> None:
        losses().backward()
        for parameter in model.parameters():
            parameter.grad = None

    return step


def inference(contender: Contender, model: nn.Module, side: int) -> Callable[[], None]:
    """One image."""
    for part in model.modules():
        if hasattr(part, "score_thresh"):
            part.score_thresh = 0.9  # type: ignore[assignment]  # a plain number
    one = [torch.rand(3, side, side)] if contender.detects else torch.randn(1, 3, side, side)

    def call() -> None:
        with torch.inference_mode():
            model(one)

    return call


MODES = {"training step": (True, training_step), "inference": (False, inference)}


def compared(pair: tuple[Contender, Contender], mode: str, side: int, rounds: int) -> dict[str, Any]:
    """Both in turns; the first round warms up and is not counted."""
    training, prepare = MODES[mode]
    models = [contender.make(side).train(training) for contender in pair]
    calls = [prepare(contender, model, side) for contender, model in zip(pair, models, strict=True)]
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for place in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            calls[place]()
            if turn:
                times[place].append(time.perf_counter() - start)
    ratios = [first / second for first, second in zip(*times, strict=True)]
    return {
        "first": pair[0].name,
        "second": pair[1].name,
        "mode": mode,
        "parameters": [count_parameters(model) for model in models],
        "ratio": round(statistics.median(ratios), 3),
        "all": [round(ratio, 3) for ratio in ratios],
        "seconds": [round(statistics.median(spent), 3) for spent in times],
    }


def evaluation(images: int) -> dict[str, Any]:
    """Seconds for COCO's twelve box metrics, by the task's metric and by pycocotools."""
    ground_truth, found = random_detections(images, np.random.default_rng(0))
    objective = DetectionObjective(ground_truth, CLASSES, masks=False)
    start = time.perf_counter()
    metric = objective.metric()
    for index, objects in enumerate(found):
        metric.update([objects], Batch([torch.empty(0)], [{"image_id": torch.tensor(index)}]))
    metrics = metric.compute([metric.part])
    ours = time.perf_counter() - start

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    categories = [{"id": label + 1, "name": str(label)} for label in range(CLASSES)]
    results = [entry for part in metric.part for entry in part.to_coco("box")]
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        known = COCO()
        known.dataset = ground_truth | {"categories": categories}
        known.createIndex()
        counting = COCOeval(known, known.loadRes(results), "bbox")
        counting.evaluate()
        counting.accumulate()
        counting.summarize()
        theirs = time.perf_counter() - start
    return {
        "images": images,
        "seconds": round(ours, 2),
        "pycocotools_seconds": round(theirs, 2),
        "ap": metrics["box_ap"],
        "pycocotools_ap": float(counting.stats[0]),
    }


def random_detections(count: int, rng: np.random.Generator) -> tuple[dict[str, Any], list[dict[str, Tensor]]]:
    """A ground truth in COCO's format, and detections of which every third is close to an object."""
    images, objects, detections = [], [], []
    for index in range(count):
        images.append({"id": index, "height": 480, "width": 640})
        corners, sides = rng.random((7, 2)) * 300, 10 + rng.random((7, 2)) * 150
        labels = rng.integers(CLASSES, size=7)
        for place, (label, corner, side) in enumerate(zip(labels, corners, sides, strict=True), start=1):
            box = {"bbox": [*corner.tolist(), *side.tolist()], "area": float(side.prod()), "iscrowd": 0}
            objects.append({"id": 7 * index + place, "image_id": index, "category_id": int(label) + 1, **box})
        places = rng.integers(7, size=20)
        near = np.concatenate([corners, corners + sides], axis=1)[places] + rng.normal(0, 8, (20, 4))
        detections.append(
            {
                "boxes": torch.from_numpy(near).float(),
                "labels": torch.from_numpy(np.where(rng.random(20) < 1 / 3, labels[places], rng.integers(CLASSES))),
                "scores": torch.from_numpy(np.sort(rng.random(20))[::-1].copy()).float(),
            }
        )
    return {"images": images, "annotations": objects}, detections


def shown(results: list[dict[str, Any]]) -> Table:
    """The results for a terminal."""
    table = Table(title="first time / second time (below 1: the first is faster)", title_justify="left")
    for head in ("first", "second", "mode", "parameters", "ratio", "seconds"):
        table.add_column(head, justify="right" if head in ("ratio", "seconds", "parameters") else "left")
    for result in results:
        sizes = " / ".join(f"{count / 1e6:.1f} M" for count in result["parameters"])
        spent = " / ".join(f"{seconds:.2f}" for seconds in result["seconds"])
        table.add_row(result["first"], result["second"], result["mode"], sizes, f"{result['ratio']:.2f}", spent)
    return table


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=512, help="of the square images, in pixels")
    parser.add_argument("--only", choices=["speed", "evaluation"])
    parser.add_argument("--images", type=int, default=5000, help="of the evaluation")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()

    console = Console()
    result: dict[str, Any] = {"side": asked.side, "machine": machine(), "results": []}
    if asked.only != "speed":
        with console.status("evaluation"):
            result["evaluation"] = evaluation(asked.images)
        console.print(result["evaluation"])
    if asked.only != "evaluation":
        for pair in PAIRS:
            for mode in MODES:
                with console.status(f"{pair[0].name} against {pair[1].name}: {mode}"):
                    result["results"].append(compared(pair, mode, asked.side, asked.rounds))
        Console(width=max(console.width, 150)).print(shown(result["results"]))
    asked.out.write_text(json.dumps(result, indent=2) + "\n")
    console.print(f"written to {asked.out}")


if __name__ == "__main__":
    main()
