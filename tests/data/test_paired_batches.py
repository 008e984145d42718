"""Batches with objects or label maps depend on (seed, epoch, index), not on workers, processes or a restart."""

from __future__ import annotations

import pickle
import warnings
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_datasets import coco_set, document, label_map_set, labels_of

from metaformer.data.coco import open_coco
from metaformer.data.dataset import Splits
from metaformer.data.label_maps import open_label_maps
from metaformer.data.loading.loader import BadImageWarning, Loader
from metaformer.data.loading.samples import UnreadableSample, WorkerBatch, as_lists, stack
from metaformer.data.loading.schedule import BatchSchedule
from metaformer.data.transforms.paired import (
    LabelMapEvalTransform,
    LabelMapTrainTransform,
    ObjectEvalTransform,
    ObjectTrainTransform,
)
from metaformer.errors import DataError
from metaformer.recipe import Augmentation, DataConfig, Dense
from metaformer.types import Batch, Preprocessing

SYSTEMS = ["retinanet", "mask_rcnn", "semantic_fpn"]
VARIED = Dense(scale=(0.5, 2.0), photometric=True, crop=32)


def spec(system: str, **changes: Any) -> Any:
    return SimpleNamespace(**{"system": system, "short_side": 32, "long_side": 64, "square": False, **changes})


def opened(folder: Path, system: str, count: int = 7, **changes: Any) -> Splits[Any]:
    if system == "semantic_fpn":
        root = folder if folder.joinpath("images").is_dir() else label_map_set(folder, train=count, val=3)
        return open_label_maps(DataConfig(source=str(root), **changes))
    root = folder if folder.joinpath("images").is_dir() else coco_set(folder, document(count), document(3, 50))
    return open_coco(DataConfig(source=str(root), **changes))


def training(sets: Splits[Any], system: str, dense: Dense = VARIED, *, workers: int = 0, **changes: Any) -> Loader:
    schedule = BatchSchedule(len(sets.train), 3, **{"seed": 5, "shuffle": True, **changes})
    if system == "semantic_fpn":
        transform: Any = LabelMapTrainTransform(spec(system), Augmentation(), dense, Preprocessing())
        return Loader(sets.train, transform, schedule, collate=stack, workers=workers)
    transform = ObjectTrainTransform(Augmentation(), dense, Preprocessing())
    return Loader(as_used(sets.train, system), transform, schedule, collate=as_lists, workers=workers)


def evaluation(dataset: Any, system: str, batch_size: int, *, workers: int = 0, **changes: Any) -> Loader:
    segmenter = system == "semantic_fpn"
    transform: Any = LabelMapEvalTransform(spec(system), Preprocessing()) if segmenter else ObjectEvalTransform()
    schedule = BatchSchedule(len(dataset), batch_size, **changes)
    return Loader(as_used(dataset, system), transform, schedule, collate=as_lists, replace=False, workers=workers)


def as_used(dataset: Any, system: str) -> Any:
    return dataset.boxes_only() if system == "retinanet" else dataset


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return torch.equal(one, other)


def equal(batches: list[Batch], others: list[Batch]) -> bool:
    pairs = list(zip(batches, others, strict=True))
    return all(same(a.inputs, b.inputs) and same(a.targets, b.targets) for a, b in pairs)


@pytest.mark.parametrize("system", SYSTEMS)
def test_batches_do_not_depend_on_workers_and_resume_exactly(tmp_path: Path, system: str) -> None:
    sets = opened(tmp_path, system)
    alone = training(sets, system)
    epochs = [list(alone.batches(epoch)) for epoch in (0, 1)]
    assert [len(batch) for batch in epochs[0]] == [3, 3, 1]
    assert not equal(epochs[0][:2], epochs[1][:2])
    torch.manual_seed(77)  # what else is drawn in the process does not matter
    assert equal(list(alone.batches(1, start=1)), epochs[1][1:])
    helped = training(sets, system, workers=2)
    try:
        assert equal(list(helped.batches(0)), epochs[0])
        assert equal(list(helped.batches(1, start=2)), epochs[1][2:])
    finally:
        helped.close()
    assert not equal(list(training(sets, system, seed=6).batches(0)), epochs[0])


@pytest.mark.parametrize("system", SYSTEMS)
def test_processes_together_see_what_one_sees(tmp_path: Path, system: str) -> None:
    sets = opened(tmp_path, system)
    whole = list(training(sets, system).batches(0))
    parts = [list(training(sets, system, rank=rank, world=2).batches(0)) for rank in range(2)]
    assert [len(part) for part in parts] == [2, 2], "a last batch of one image would leave a process without"
    for batch, one, other in zip(whole, *parts, strict=False):
        assert same(list(batch.inputs), [*one.inputs, *other.inputs])
        assert same(list(batch.targets), [*one.targets, *other.targets])


def test_batches_of_objects_are_lists(tmp_path: Path) -> None:
    sets = opened(tmp_path, "mask_rcnn")
    (batch,) = islice(training(sets, "mask_rcnn", Dense()).batches(0), 1)
    assert [tuple(image.shape) for image in batch.inputs] == [(3, 16, 20)] * 3
    assert all(float(image.min()) >= 0 and float(image.max()) <= 1 for image in batch.inputs)
    assert all(target["masks"].shape == (len(target["labels"]), 16, 20) for target in batch.targets)
    (boxes,) = islice(training(sets, "retinanet", Dense()).batches(0), 1)
    assert all("masks" not in target for target in boxes.targets)


def test_batches_of_label_maps_are_tensors(tmp_path: Path) -> None:
    (batch,) = islice(training(opened(tmp_path, "semantic_fpn"), "semantic_fpn", Dense()).batches(0), 1)
    assert (batch.inputs.shape, batch.targets.shape) == ((3, 3, 32, 32), (3, 32, 32))
    assert (batch.inputs.dtype, batch.targets.dtype) == (torch.float32, torch.int64)
    assert int(batch.targets[batch.targets != 255].max()) <= 2


def test_evaluation_has_every_image_once_in_order(tmp_path: Path) -> None:
    sets = opened(tmp_path / "objects", "mask_rcnn")
    batches = list(evaluation(sets.val, "mask_rcnn", 2).batches(0))
    targets = [target for batch in batches for target in batch.targets]
    assert [int(target["image_id"]) for target in targets] == [0, 1, 2]
    assert all(same(target, sets.val.load(i)[1]) for i, target in enumerate(targets))
    shares = [evaluation(sets.val, "retinanet", 2, rank=rank, world=2) for rank in range(2)]
    seen = [int(t["image_id"]) for loader in shares for batch in loader.batches(0) for t in batch.targets]
    assert sorted(seen) == [0, 1, 2]

    maps = opened(tmp_path / "maps", "semantic_fpn")
    (batch, _) = evaluation(maps.val, "semantic_fpn", 2).batches(0)
    assert [tuple(image.shape) for image in batch.inputs] == [(3, 32, 64)] * 2, "40 up to a multiple of 32"
    assert [tuple(target.shape) for target in batch.targets] == [(16, 20)] * 2
    stored = torch.from_numpy(labels_of(100)).long()
    assert torch.equal(batch.targets[0], torch.where(stored == 0, 255, stored - 1))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("system", ["retinanet", "semantic_fpn"])
def test_an_image_that_becomes_unreadable_is_refused_or_skipped(tmp_path: Path, system: str, workers: int) -> None:
    sets = opened(tmp_path, system)
    for part in (sets.train, sets.val):
        bad = Path(part.name(1))
        bad.write_bytes(bad.read_bytes()[:100])
    refusing = training(sets, system, workers=workers)
    with pytest.raises(DataError, match=r"\.png is not a readable image.*--data.on-bad-image skip"):
        list(refusing.batches(0))
    refusing.close()

    skipping = opened(tmp_path, system, on_bad_image="skip", verify="none")
    loader = training(skipping, system, workers=workers)
    evaluated = evaluation(skipping.val, system, 1, workers=workers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lengths = [len(batch) for batch in loader.batches(0)]
        left = [len(batch) for batch in evaluated.batches(0)]
    loader.close()
    evaluated.close()
    assert lengths == [3, 3, 1], "the next image takes its place"
    assert left == [1, 0, 1], "an image evaluated twice would count twice"
    warned = [str(warning.message) for warning in caught if warning.category is BadImageWarning]
    assert ["takes its place" in words for words in warned] == [True, False]


def test_a_batch_of_lists_comes_out_of_a_worker_unchanged_and_writable() -> None:
    targets = [{"boxes": torch.rand(2, 4), "image_id": torch.tensor(3)}, {"boxes": torch.zeros(0, 4)}]
    sent = WorkerBatch([torch.rand(3, 2, 2)], targets, None, [UnreadableSample("name", "message")])
    back = pickle.loads(pickle.dumps(sent))
    assert same(back.targets, targets)
    assert same(back.inputs, sent.inputs)
    assert back.unreadable == sent.unreadable
    back.targets[0]["boxes"].add_(1)
    assert torch.equal(back.targets[0]["boxes"], targets[0]["boxes"] + 1)
