"""Cached images: the same evaluation batches as without the cache, and augmentation by the same distribution."""

from __future__ import annotations

import gc
import random
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_decode import truncated
from test_loader import equal
from torch import Tensor
from torch.nn import functional as F

from metaformer.data.dataset import ArrayDataset, LabeledDataset
from metaformer.data.image_folder import LabeledImageFiles
from metaformer.data.loading.cached_images import CACHE_LIMIT, CachedImages, cache_images
from metaformer.data.loading.loader import BadImageWarning, CachedLoader, Loader, evaluation_loader, training_loader
from metaformer.data.loading.schedule import BatchSchedule
from metaformer.data.sources import open_labeled
from metaformer.errors import DataError
from metaformer.recipe import Augmentation, DataConfig
from metaformer.types import Batch, Preprocessing

PIXELS = Preprocessing(size=(16, 24), crop=1.0, mean=(0.0,), std=(1 / 255,))
"""Normalized so that floats are bytes: what is black is 0, and what no image has shows."""
SHIFTED = Augmentation(policy="small", hflip=0.5)


def arrays(count: int = 22, height: int = 16, width: int = 24, seed: int = 0) -> ArrayDataset:
    """Gray noise without black, image i labeled i."""
    pixels = np.random.RandomState(seed).randint(1, 256, (count, height, width), np.uint8)
    return ArrayDataset(pixels, list(range(count)), "noise", list(range(count)))


def training(images: ArrayDataset, augmentation: Augmentation = SHIFTED, **more: object) -> CachedLoader:
    made = train_loader(images, PIXELS, augmentation, cache=True, **more)
    assert isinstance(made, CachedLoader)
    return made


def train_loader(
    images: ArrayDataset, pixels: Preprocessing, augmentation: Augmentation, cache: bool, **schedule: object
) -> Loader | CachedLoader:
    plan = BatchSchedule(len(images), **{"batch_size": 8, "seed": 3, "shuffle": True, **schedule})
    return training_loader(images, pixels, augmentation, 1, plan, cache=cache)


def eval_loader(
    images: LabeledDataset, pixels: Preprocessing, channels: int, cache: bool, batch_size: int = 8, **schedule: object
) -> Loader | CachedLoader:
    plan = BatchSchedule(len(images), batch_size, **schedule)
    return evaluation_loader(images, pixels, channels, plan, cache=cache)


def whole(loader: CachedLoader, epoch: int = 0) -> Batch:
    """An epoch as one batch."""
    batches = list(loader.batches(epoch))
    return Batch(torch.cat([b.inputs for b in batches]), torch.cat([b.targets for b in batches]))


def by_image(batch: Batch) -> Tensor:
    return batch.inputs[batch.targets.argsort()]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "pixels",
    [
        Preprocessing(size=(16, 24), crop=1.0),
        Preprocessing(size=(16, 24), crop=0.9, interpolation="bilinear"),
        Preprocessing(size=(12, 12), crop=0.7, mean=(0.1, 0.5, 0.9), std=(0.3, 0.2, 0.7)),
        Preprocessing(size=(20, 28), mean=(0.4,), std=(0.3,)),
    ],
)
def test_evaluation_batches_are_the_same_bits_with_and_without_the_cache(pixels: Preprocessing, channels: int) -> None:
    ways = [list(eval_loader(arrays(), pixels, channels, cache).batches(0)) for cache in (True, False)]
    assert equal(*ways)
    assert ways[0][0].inputs.stride() == ways[1][0].inputs.stride()


def test_images_of_any_size_are_cached_at_the_input_size(write_folder: Callable[..., Path]) -> None:
    sets = open_labeled(DataConfig(source=str(write_folder({"train/a": 5, "train/b": 4, "val/a": 1, "val/b": 1}))))
    pixels = Preprocessing(size=(8, 8), crop=0.8)
    ways = [list(eval_loader(sets.train, pixels, 3, cache, 4, rank=1, world=2).batches(0)) for cache in (True, False)]
    assert equal(*ways)


@pytest.mark.parametrize("crop", [None, 0.8])
def test_training_batches_without_augmentation_are_the_same_bits_with_and_without_the_cache(crop: float | None) -> None:
    plain = Augmentation(policy="none", crop=crop, erase=0.5, color_jitter=0.4)
    ways = [list(train_loader(arrays(), PIXELS, plain, cache).batches(2)) for cache in (True, False)]
    assert equal(*ways)


def shifted_and_flipped(image: Tensor) -> Tensor:
    """Everything that shift and flip can make of an image (C, H, W), flips last: (variants, C, H, W)."""
    height, width = image.shape[1:]
    down, across = height // 8, width // 8
    padded = F.pad(image, (across, across, down, down))
    cuts = [
        padded[:, top : top + height, left : left + width]
        for top in range(2 * down + 1)
        for left in range(2 * across + 1)
    ]
    return torch.stack(cuts + [cut.flip(2) for cut in cuts])


def test_every_image_is_shifted_or_flipped_and_all_variants_are_equally_frequent() -> None:
    images = arrays(12)
    plain = by_image(whole(training(images, Augmentation(policy="none"))))
    variants = [shifted_and_flipped(image) for image in plain]
    times = torch.zeros(len(variants[0]))
    reader, epochs = training(images), 300
    for epoch in range(epochs):
        for image, known in zip(by_image(whole(reader, epoch)), variants, strict=True):
            (found,) = (known == image).flatten(1).all(1).nonzero()
            times[found] += 1
    total, kinds = times.sum().item(), len(times)
    assert (total, kinds) == (12 * epochs, 2 * 5 * 7)
    expected = total / kinds
    chi = ((times - expected).square() / expected).sum().item()
    assert chi < kinds - 1 + 4 * (2 * (kinds - 1)) ** 0.5
    assert abs(times[kinds // 2 :].sum().item() / total - 0.5) < 4 * (0.25 / total) ** 0.5


@pytest.mark.parametrize(("flip", "rate"), [(0.0, 0.0), (0.2, 0.2), (1.0, 1.0)])
def test_flips_have_the_given_probability(flip: float, rate: float) -> None:
    ramp = np.broadcast_to(np.arange(1, 25, dtype=np.uint8), (2000, 16, 24)).copy()
    images = ArrayDataset(ramp, list(range(2000)), "ramp", list(range(2000)))
    middle = whole(training(images, Augmentation(policy="small", hflip=flip), batch_size=500)).inputs[:, 0, 8, 8:16]
    flipped = (middle[:, 0] > middle[:, -1]).double().mean().item()
    assert abs(flipped - rate) <= 4 * (rate * (1 - rate) / 2000) ** 0.5


def test_erasing_has_the_distribution_of_timms() -> None:
    """Against images that are loaded one at a time: how often, how large, how flat, what noise."""
    gray = np.full((3000, 16, 24), 128, np.uint8)
    dataset = ArrayDataset(gray, list(range(3000)), "gray", list(range(3000)))
    pixels = PIXELS.with_changes(mean=(128 / 255,), std=(0.5,))
    erasing = Augmentation(policy="small", hflip=0.0, erase=0.4)
    statistics = []
    for cache in (True, False):
        loader = train_loader(dataset, pixels, erasing, cache, batch_size=1000)
        images = torch.cat([batch.inputs for batch in loader.batches(0)])[:, 0]
        inner = images[:, 2:-2, 3:-3]  # where a shift brings no black
        changed = inner != 0
        erased = changed.flatten(1).any(1)
        rows, columns = changed.any(2).sum(1).double()[erased], changed.any(1).sum(1).double()[erased]
        assert torch.equal(changed.sum((1, 2))[erased].double(), rows * columns)  # one rectangle
        noise = inner[changed].double()
        statistics.append(
            [
                erased.double().mean(),
                rows.mean() / 12,
                columns.mean() / 18,
                noise.mean(),
                noise.std(),
                noise.pow(4).mean(),
            ]
        )
    (rate, *ours), (their_rate, *theirs) = ([float(value) for value in row] for row in statistics)
    assert abs(rate - their_rate) < 4 * (2 * 0.24 / 3000) ** 0.5
    assert ours == pytest.approx(theirs, abs=0.03, rel=0.05)


ERASED = Augmentation(policy="small", hflip=0.5, erase=0.6)


@pytest.mark.parametrize("augmentation", [SHIFTED, ERASED, Augmentation(policy="none")])
def test_an_epoch_resumed_at_a_batch_is_its_tail(augmentation: Augmentation) -> None:
    unbroken = list(training(arrays(), augmentation).batches(4))
    reader = training(arrays(), augmentation)
    for start in (3, 1, 0, 2):
        assert equal(list(reader.batches(4, start)), unbroken[start:])


@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_see_what_one_sees(world: int) -> None:
    one = list(training(arrays(), ERASED).batches(1))
    parts = [list(training(arrays(), ERASED, rank=rank, world=world).batches(1)) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    for index, expected in enumerate(one):
        slices = [part[index] for part in parts]
        joined = Batch(torch.cat([b.inputs for b in slices]), torch.cat([b.targets for b in slices]))
        assert equal([joined], [expected])


def test_batches_depend_on_the_seed_and_the_epoch() -> None:
    first = by_image(whole(training(arrays(), ERASED)))
    assert torch.equal(by_image(whole(training(arrays(), ERASED))), first)
    others = [
        by_image(whole(training(arrays(), ERASED), 1)),
        by_image(whole(training(arrays(), ERASED, seed=4))),
    ]
    for other in others:
        assert (other != first).flatten(1).any(1).double().mean() > 0.8  # most images, not their order alone
    assert torch.equal(whole(training(arrays(), ERASED)).targets, _order_of_the_image_path())


def _order_of_the_image_path() -> Tensor:
    loader = train_loader(arrays(), PIXELS, ERASED, cache=False)
    return torch.cat([batch.targets for batch in loader.batches(0)])


def test_the_draws_for_an_image_do_not_depend_on_its_batch() -> None:
    sizes = [by_image(whole(training(arrays(), batch_size=size))) for size in (4, 11, 22)]
    assert torch.equal(sizes[0], sizes[1])
    assert torch.equal(sizes[0], sizes[2])


def test_global_generators_are_left_as_they_were() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seeded() -> None:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    seeded()
    expected = [draws() for _ in range(3)]
    seeded()
    reader = training(arrays(), ERASED)
    assert [draws() for _ in reader.batches(0)] == expected


def test_images_are_read_once_a_process_and_freed_with_their_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    load = ArrayDataset.load
    monkeypatch.setattr(ArrayDataset, "load", lambda self, index: read.append(index) or load(self, index))
    images = arrays()
    one = training(images)
    two = eval_loader(images, PIXELS.with_changes(mean=(0.5,), std=(0.5,)), 1, cache=True)
    assert isinstance(two, CachedLoader)
    assert one.cache is two.cache
    assert read == list(range(22))
    CachedImages.of(images, PIXELS, 3)
    assert len(read) == 44
    pixels = weakref.ref(one.cache.pixels)
    del one, two, images
    gc.collect()
    assert pixels() is None


def test_reading_reports_progress() -> None:
    calls: list[tuple[str, int, int]] = []
    CachedImages.of(arrays(300), PIXELS, 1, progress=lambda *step: calls.append(step))
    assert [step[1:] for step in calls] == [(256, 300), (300, 300)]


def folder_of(root: Path, **choice: object) -> LabeledImageFiles:
    sets = open_labeled(DataConfig(source=str(root), verify="none", **choice))
    assert isinstance(sets.train, LabeledImageFiles)
    return sets.train


def test_bad_images_are_refused_or_replaced_as_without_the_cache(write_folder: Callable[..., Path]) -> None:
    root = write_folder({"train/a": 4, "train/b": 4, "val/a": 1, "val/b": 1})
    bad = root / "train" / "b" / "001.png"
    bad.write_bytes(truncated("PNG"))
    pixels = Preprocessing(size=(8, 8), crop=1.0)
    with pytest.raises(DataError, match=r"--data\.on-bad-image skip") as raised:
        eval_loader(folder_of(root), pixels, 3, cache=True, batch_size=4)
    assert str(raised.value).startswith(f"{bad} is not a readable image: ")
    ways = []
    for cache in (True, False):
        loader = eval_loader(folder_of(root, on_bad_image="skip"), pixels, 3, cache, 4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ways.append([list(loader.batches(epoch)) for epoch in range(2)])
        (warned,) = [warning for warning in caught if warning.category is BadImageWarning]
        assert str(warned.message).startswith(str(bad))
        assert warned.filename == __file__
    assert equal(ways[0][0], ways[1][0])
    assert equal(ways[0][1], ways[1][1])


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"policy": "small"}, True),
        ({"policy": "small", "erase": 0.25, "mixup": 0.2}, True),
        ({"policy": "none"}, True),
        ({"policy": "none", "auto_augment": "rand-m9-mstd0.5-inc1"}, True),  # which "none" leaves out
        ({"policy": "imagenet"}, False),
        ({"policy": "small", "auto_augment": "rand-m9-mstd0.5-inc1"}, False),
        ({"policy": "small", "color_jitter": 0.4}, False),
    ],
)
def test_whether_images_are_cached_depends_on_the_policy(changes: dict[str, object], kept: bool) -> None:
    augmentation = Augmentation(**changes)
    asked = {name: DataConfig(memory=name) for name in ("auto", "always", "never")}
    assert cache_images(asked["auto"], augmentation, 1000, (32, 32), 3) is kept
    assert cache_images(asked["never"], augmentation, 1000, (32, 32), 3) is False
    if kept:
        assert cache_images(asked["always"], augmentation, 10**9, (32, 32), 3) is True
    else:
        with pytest.raises(DataError, match=r"data\.memory: expected 'auto' or 'never'.*got 'always'"):
            cache_images(asked["always"], augmentation, 1000, (32, 32), 3)


def test_auto_caches_up_to_a_limit() -> None:
    most = CACHE_LIMIT // (3 * 32 * 32)
    assert cache_images(DataConfig(), SHIFTED, most, (32, 32), 3) is True
    assert cache_images(DataConfig(), SHIFTED, most + 1, (32, 32), 3) is False
