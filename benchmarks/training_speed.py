"""Images per second in training a small PoolFormer on the CPU, ours and in the way of timm's training script.

    python benchmarks/training_speed.py                       # everything, about four minutes on two cores
    python benchmarks/training_speed.py --quick               # one short round, to see whether it runs
    python benchmarks/training_speed.py --data my/images    # a folder per class; images of 32 × 32

Ours is what ``metaformer train --recipe small`` does: images kept in memory and varied in batches, the engine with
its clipping. timm's is what its ``train.py`` does: ``create_dataset`` and ``create_loader`` with the prefetcher and a
worker process for each core, random resized crop, flip, color jitter 0.4 and random erasing; its ``MetaFormer`` of the
same depths, widths and stem; ``create_optimizer_v2``. Further lines explain: our loader of single images, timm's
model in ``channels_last``, and timm with the paper's RandAugment, Mixup and CutMix.

All take turns in one process, in the opposite order every round. A turn is one epoch of a few batches, after which
every worker is idle. The time is measured from the arrival of an epoch's first batch to that of its last: batches that
workers prepare before the first one would not be counted. Speeds are medians over the rounds, ratios are medians of
(ours / theirs) of the same round. Batch 128, float32, as many threads as cores, random weights.

No other program should run. The result, with hardware and versions, is written to training_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from timm.data import FastCollateMixup, create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.models.metaformer import GroupNorm1, MetaFormer
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from metaformer.benchmark.machine import machine
from metaformer.data.image_folder import LabeledImageFiles
from metaformer.data.loading.loader import training_loader
from metaformer.data.loading.schedule import BatchSchedule

# Pillow 13 refuses to keep 0 bits of a color, which RandAugment asks for now and then
from metaformer.data.transforms.image import allow_posterize_to_black
from metaformer.model.build import build
from metaformer.recipe import Machine
from metaformer.spec.model import ModelSpec
from metaformer.tasks.classification.objective import ClassificationObjective
from metaformer.training.device import flush_denormals
from metaformer.training.engine import Engine
from metaformer.zoo.catalogue import find

SIDE, BATCH = 32, 128
ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "cifar10" / "train"
OUT = Path(__file__).with_suffix(".json")
CORES = os.cpu_count() or 1
SMALL = runpy.run_path(str(ROOT / "experiments" / "small.py"))["recipe"]("poolformer_s12")

Epoch = Callable[[int], Iterator[None]]
"""Trains one epoch; yields when a batch has arrived and all batches before it are done."""


@dataclass(frozen=True)
class Size:
    """PoolFormer-S12 with its widths divided, and a stride of its stem."""

    name: str
    divisor: int
    stride: int

    def spec(self, classes: int) -> ModelSpec:
        """Of our model."""
        published = find("poolformer_s12").spec
        assert isinstance(published, ModelSpec)
        first, *others = (stage.with_changes(width=stage.width // self.divisor) for stage in published.stages)
        first = first.with_changes(embedding=first.embedding.with_changes(stride=self.stride))
        return published.with_changes(
            stages=(first, *others), num_classes=classes, img_size=(SIDE, SIDE), drop_path_rate=0.1
        )

    def of_timm(self, classes: int) -> nn.Module:
        """The same model in timm, which has no argument for the stem's stride."""
        model = MetaFormer(
            depths=(2, 2, 6, 2),
            dims=tuple(width // self.divisor for width in (64, 128, 320, 512)),
            num_classes=classes,
            downsample_norm=None,
            mlp_act=nn.GELU,
            mlp_bias=True,
            norm_layers=GroupNorm1,
            layer_scale_init_values=1e-5,
            res_scale_init_values=None,
            use_mlp_head=False,
            drop_path_rate=0.1,
        )
        model.stem.conv.stride = (self.stride, self.stride)
        return model


SIZES = (
    Size("S12 ÷ 4, stem 4", 4, 4),
    Size("S12 ÷ 4, stem 2", 4, 2),
    Size("S12 ÷ 2, stem 4", 2, 4),
    Size("S12, stem 4", 1, 4),
)


@dataclass(frozen=True)
class Folder:
    """Labeled image files, the same for all."""

    root: Path
    files: list[Path]
    labels: list[int]
    classes: int


def folder_of(root: Path, count: int) -> Folder:
    """``count`` images from folders per class, evenly spaced."""
    classes = sorted(entry for entry in root.iterdir() if entry.is_dir())
    found = [(path, label) for label, folder in enumerate(classes) for path in sorted(folder.iterdir())]
    if len(found) < count:
        raise SystemExit(f"{root}: expected at least {count} images in a folder per class, got {len(found)}")
    chosen = [found[i * len(found) // count] for i in range(count)]
    return Folder(root, [path for path, _ in chosen], [label for _, label in chosen], len(classes))


def write_images(root: Path, count: int) -> None:
    """JPEGs of noise in ten classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"class{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


def ours(size: Size, folder: Folder, *, memory: bool) -> Epoch:
    """Our engine and loader, with the recipe ``small`` and horizontal flips."""
    recipe = SMALL.with_changes(
        augmentation=SMALL.augmentation.with_changes(hflip=0.5), machine=Machine(device="cpu", threads=CORES)
    )
    model = build(size.spec(folder.classes))
    engine = Engine(model, ClassificationObjective(folder.classes, recipe.optimizer.label_smoothing), recipe)
    images = LabeledImageFiles(folder.files, folder.labels)
    pixels = model.preprocessing.with_changes(size=(SIDE, SIDE), crop=1.0)
    schedule = BatchSchedule(len(images), BATCH, shuffle=True)
    loader = training_loader(images, pixels, recipe.augmentation, 3, schedule, cache=memory, workers=CORES)

    def epoch(number: int) -> Iterator[None]:
        with flush_denormals(engine.accelerator.device):
            for update, batch in enumerate(loader.batches(number)):
                yield
                engine.gradients([batch], update)
                engine.step(recipe.optimizer.peak_lr, update)

    return epoch


def timms(size: Size, folder: Folder, *, channels_last: bool = False, paper: bool = False) -> Epoch:
    """timm's parts as its ``train.py`` puts them together; with ``paper`` RandAugment, Mixup and CutMix too."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    model = size.of_timm(folder.classes).to(memory_format=form).train()
    expect_twins(model, build(size.spec(folder.classes)))
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    dataset = create_dataset("", root=str(folder.root), is_training=True)
    dataset.reader.samples = [(str(path), label) for path, label in zip(folder.files, folder.labels, strict=True)]
    mixing = FastCollateMixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=folder.classes)
    loader = create_loader(
        dataset,
        input_size=(3, SIDE, SIDE),
        batch_size=BATCH,
        is_training=True,
        re_prob=0.25,
        re_mode="pixel",
        color_jitter=0.4,
        auto_augment="rand-m9-mstd0.5-inc1" if paper else None,
        interpolation="random",
        num_workers=CORES,
        collate_fn=mixing if paper else None,
        device=torch.device("cpu"),
    )
    if paper:
        allow_posterize_to_black(dataset.transform)
    criterion = SoftTargetCrossEntropy() if paper else LabelSmoothingCrossEntropy(0.1)

    def epoch(_number: int) -> Iterator[None]:
        for images, targets in loader:
            yield
            train_step(model, criterion, optimizer, images.contiguous(memory_format=form), targets)

    return epoch


def train_step(
    model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, targets: Tensor
) -> None:
    """One update, and the loss as a number, which ``train.py`` prints and our engine checks."""
    loss = criterion(model(images), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    loss.item()


def expect_twins(one: nn.Module, other: nn.Module) -> None:
    """The same model twice has the same number of weights."""
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (one, other)]
    if counts[0] != counts[1]:
        raise SystemExit(f"the models differ: {counts[0]} weights against {counts[1]}")


WAYS: dict[str, Callable[[Size, Folder], Epoch]] = {
    "ours": partial(ours, memory=True),
    "ours, image by image": partial(ours, memory=False),
    "timm": timms,
    "timm, channels_last": partial(timms, channels_last=True),
    "timm, the paper's augmentation": partial(timms, paper=True),
}


def speed(epoch: Epoch, number: int) -> float:
    """Images per second of one epoch, from the arrival of its first batch to that of its last."""
    more, turns = 0, epoch(number)
    next(turns)
    start = last = time.perf_counter()
    for _ in turns:
        more, last = more + 1, time.perf_counter()
    return more * BATCH / (last - start)


@dataclass
class Result:
    """The speeds of all ways at one size, in each round."""

    size: Size
    speeds: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})

    def rows(self) -> list[dict[str, Any]]:
        """A row for each way."""
        return [
            {
                "size": self.size.name,
                "way": way,
                "images_per_second": round(statistics.median(speeds), 1),
                "all": [round(one, 1) for one in speeds],
                "ours_is_faster_by": round(
                    statistics.median(a / b for a, b in zip(self.speeds["ours"], speeds, strict=True)), 2
                ),
            }
            for way, speeds in self.speeds.items()
        ]


def measured(size: Size, folder: Folder, rounds: int, on_step: Callable[[str], None]) -> Result:
    """All ways in turns, after one epoch of each that is not counted."""
    epochs = {way: make(size, folder) for way, make in WAYS.items()}
    result = Result(size)
    for number in range(rounds + 1):
        for way in list(WAYS) if number % 2 else list(reversed(WAYS)):
            on_step(f"{size.name}: {way}, round {number} of {rounds}")
            found = speed(epochs[way], number)
            if number:
                result.speeds[way].append(found)
    return result


def shown(rows: list[dict[str, Any]]) -> Table:
    """The results for a terminal."""
    table = Table(title=f"training on {SIDE} × {SIDE}, batch {BATCH}", title_justify="left")
    for head in ("model", "way", "images/s", "ours is faster by"):
        table.add_column(head, justify="left" if head in ("model", "way") else "right")
    for row in rows:
        faster = "" if row["way"] == "ours" else f"{row['ours_is_faster_by']:.2f} ×"
        table.add_row(row["size"], row["way"], f"{row['images_per_second']:,.0f}", faster)
    return table


def main() -> None:
    """Measure, write, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="a folder per class; noise if it does not exist")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=8, help="of a turn; the first is not counted")
    parser.add_argument("--quick", action="store_true", help="one short round of the smallest model")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds, asked.batches = 1, 2

    torch.manual_seed(0)
    torch.set_num_threads(CORES)
    console, rows, count = Console(), [], asked.batches * BATCH
    with tempfile.TemporaryDirectory() as made, console.status("") as status:
        real = asked.data.is_dir()
        if not real:
            write_images(Path(made), count)
        folder = folder_of(asked.data if real else Path(made), count)
        about = {"side": SIDE, "batch": BATCH, "batches": asked.batches, "workers": CORES, "machine": machine()}
        about["images"] = asked.data.parent.name if real else "noise"
        for size in SIZES[:1] if asked.quick else SIZES:
            rows += measured(size, folder, asked.rounds, status.update).rows()
            if not asked.quick:
                asked.out.write_text(json.dumps({**about, "results": rows}, indent=2, ensure_ascii=False) + "\n")
    Console(width=max(console.width, 100)).print(shown(rows))
    if not asked.quick:
        console.print(f"written to {asked.out}")


if __name__ == "__main__":
    main()
