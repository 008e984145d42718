"""A batch depends on (seed, epoch, position), not on workers, ranks or earlier batches."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import torch

from metaformer.data.dataset import ArrayDataset, Sample
from metaformer.data.loading.loader import Loader
from metaformer.data.loading.schedule import BatchSchedule
from metaformer.data.loading.seeding import epoch_order
from metaformer.data.transforms.image import OnInput, evaluation_transform, training_transform
from metaformer.errors import DataError
from metaformer.recipe import Augmentation
from metaformer.types import Batch, Preprocessing

PREPROCESSING = Preprocessing(size=(8, 8), crop=1.0, mean=(0.5,), std=(0.5,))
VARIED = Augmentation(policy="imagenet", auto_augment="rand-m9-mstd0.5-inc1", erase=0.5, scale=(0.5, 1.0))


def random_images(count: int = 22) -> ArrayDataset:
    """Image i is filled with i and labeled i."""
    pixels = np.repeat(np.arange(count, dtype=np.uint8), 64).reshape(count, 8, 8)
    return ArrayDataset(pixels, list(range(count)), "filled", list(range(count)))


def loader(count: int = 22, *, varied: bool = False, workers: int = 0, **arguments: object) -> Loader:
    transform = training_transform(PREPROCESSING, VARIED, 1) if varied else evaluation_transform(PREPROCESSING, 1)
    schedule = BatchSchedule(count, **{"batch_size": 4, "seed": 7, "shuffle": True, **arguments})
    return Loader(random_images(count), OnInput(transform), schedule, workers=workers)


def labels(batches: Iterable[Batch]) -> list[list[int]]:
    return [batch.targets.tolist() for batch in batches]


def seen(batches: Iterable[Batch]) -> list[int]:
    return [label for batch in batches for label in batch.targets.tolist()]


def equal(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets) for a, b in zip(one, other, strict=True)
    )


def test_a_batch_is_images_with_their_labels() -> None:
    batch = next(loader().batches(0))
    assert (batch.inputs.shape, batch.inputs.dtype, batch.targets.dtype) == ((4, 1, 8, 8), torch.float32, torch.int64)
    assert ((batch.inputs[:, 0, 0, 0] * 0.5 + 0.5) * 255).round().long().tolist() == batch.targets.tolist()


def test_the_order_depends_on_the_seed_and_the_epoch() -> None:
    first = labels(loader().batches(0))
    assert sorted(seen(loader().batches(0))) == list(range(22))
    assert labels(loader().batches(0)) == first
    assert labels(loader().batches(1)) != first
    assert labels(loader(seed=8).batches(0)) != first
    assert epoch_order(6, 42, 3).tolist() == [4, 1, 0, 2, 5, 3]  # for good: runs are resumed


def test_length_and_the_last_batch() -> None:
    assert (len(loader()), [len(b) for b in loader().batches(0)]) == (6, [4] * 5 + [2])
    assert (len(loader(drop_last=True)), [len(b) for b in loader(drop_last=True).batches(0)]) == (5, [4] * 5)
    assert [loader().schedule.global_size(i) for i in range(6)] == [4] * 5 + [2]


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_at_a_batch_gives_the_tail_bit_for_bit(workers: int) -> None:
    unbroken = list(loader(varied=True).batches(3))
    resumed = loader(varied=True, workers=workers)
    for start in (0, 2, 5, 6):
        assert equal(list(resumed.batches(3, start)), unbroken[start:])
    resumed.close()


def test_batches_depend_neither_on_workers_nor_on_earlier_batches() -> None:
    alone = [list(loader(varied=True).batches(epoch)) for epoch in range(2)]
    helped = loader(varied=True, workers=2)
    next(helped.batches(5))  # left in the middle
    assert equal(list(helped.batches(1)), alone[1])
    assert equal(list(helped.batches(0)), alone[0])
    helped.close()
    assert equal(list(helped.batches(1)), alone[1])
    helped.close()
    assert not equal(alone[0], alone[1])


def test_one_epoch_at_a_time_with_workers() -> None:
    helped = loader(workers=1)
    first = helped.batches(0)
    next(first)
    second = helped.batches(1)
    next(second)
    with pytest.raises(RuntimeError, match="one epoch at a time"):
        next(first)
    helped.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_leaves_the_global_generators_as_they_were(workers: int) -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seeded() -> None:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    seeded()
    expected = [draws() for _ in range(6)]
    seeded()
    reader = loader(varied=True, workers=workers)
    assert [draws() for _ in reader.batches(0)] == expected
    reader.close()


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("count", [20, 21, 22, 23])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_see_what_one_sees(shuffle: bool, count: int, world: int) -> None:
    one = list(loader(count, varied=True, shuffle=shuffle).batches(2))
    ranks = [loader(count, varied=True, shuffle=shuffle, rank=rank, world=world) for rank in range(world)]
    parts = [list(rank.batches(2)) for rank in ranks]
    assert [len(part) for part in parts] == [len(rank) for rank in ranks]
    if shuffle:
        assert len({len(part) for part in parts}) == 1
        assert all(len(batch) > 0 for part in parts for batch in part)
        assert ranks[0].schedule.global_batches == len(parts[0]) >= count // 4
    else:
        assert sorted(seen(batch for part in parts for batch in part)) == list(range(count))
    for index in range(ranks[0].schedule.global_batches):
        slices = [part[index] for part in parts if index < len(part)]
        joined = Batch(torch.cat([b.inputs for b in slices]), torch.cat([b.targets for b in slices]))
        assert equal([joined], [one[index]])
        assert len(joined) == ranks[0].schedule.global_size(index)


def test_evaluation_keeps_the_order_of_the_dataset() -> None:
    assert seen(loader(shuffle=False).batches(9)) == list(range(22))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 3, "drop_last": True}, "3 images do not make one batch of 4 over 1 processes"),
        ({"batch_size": 1, "world": 2}, "batch_size: expected at least one image for each of 2 processes"),
        ({"count": 1, "world": 2}, "1 images do not make one batch"),
        ({"count": 0}, "0 images do not make one batch"),
    ],
)
def test_what_cannot_make_a_batch_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        loader(**arguments)


def test_workers_end_when_closed_and_survive_a_signal_to_the_process_group() -> None:
    reader = loader(workers=2)
    batches = reader.batches(0)
    next(batches)
    processes = torch.multiprocessing.active_children()
    assert len(processes) == 2
    for process in processes:
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
    assert len(list(batches)) == 5
    reader.close()
    deadline = time.monotonic() + 5
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(process.is_alive() for process in processes)


class Words:
    """A dataset of other inputs than images: words of different lengths, labeled by their length."""

    skips_bad = False
    words = ("a", "token", "mixer", "is", "enough")

    def __len__(self) -> int:
        return len(self.words)

    def load(self, index: int) -> Sample[int]:
        return Sample(self.words[index], len(self.words[index]))

    def name(self, index: int) -> str:
        return f"words/{index}"


def letters(sample: Sample[int]) -> tuple[torch.Tensor, int]:
    return torch.tensor([ord(letter) for letter in sample.input]), sample.target


def pad(samples: Sequence[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence([one for one, _ in samples], batch_first=True)
    return ids, torch.tensor([target for _, target in samples]), ids != 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_collate_function_may_pad_and_mask(workers: int) -> None:
    reader = Loader(Words(), letters, BatchSchedule(5, 5), collate=pad, workers=workers)
    (batch,) = reader.batches(0)
    reader.close()
    assert batch.inputs.shape == (5, 6)
    assert batch.mask is not None
    assert batch.mask.sum(1).tolist() == batch.targets.tolist() == [1, 5, 5, 2, 6]
