"""scikit-learn's digits, and torchvision's datasets by name."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from metaformer.data.sources import open_labeled
from metaformer.data.torchvision_sets import TORCHVISION_SETS, torchvision_name
from metaformer.errors import DataError
from metaformer.recipe import DataConfig


def test_digits_are_gray_eight_by_eight_and_split_within_each_class() -> None:
    sets = open_labeled(DataConfig(source="Digits"))
    assert (len(sets.train) + len(sets.val), sets.channels, sets.native_size) == (1797, 1, (8, 8))
    assert sets.classes == tuple("0123456789")
    shares = np.bincount(sets.val.labels) / np.bincount(sets.train.labels + sets.val.labels)
    assert np.allclose(shares, 0.2, atol=0.005)
    image = sets.train.load(0).input
    assert (image.mode, image.size) == ("L", (8, 8))
    assert max(np.asarray(sets.train.load(i).input).max() for i in range(50)) == 255
    assert sets.val.name(0).startswith("digits/")


def test_the_split_of_the_digits_depends_on_its_seed() -> None:
    def held(seed: int) -> list[str]:
        val = open_labeled(DataConfig(source="digits", split_seed=seed)).val
        return [val.name(i) for i in range(len(val))]

    first = held(0)
    assert first == held(0)
    assert first != held(1)
    train = open_labeled(DataConfig(source="digits")).train
    assert not set(first) & {train.name(i) for i in range(len(train))}


def write_idx(root: Path, name: str) -> np.ndarray:
    """The four files of an MNIST-like set: 12 images to train on, 5 to evaluate on."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.RandomState(0).randint(0, 256, (17, 28, 28), np.uint8)
    labels = (np.arange(17) % 10).astype(np.uint8)
    for part, chosen in (("train", slice(0, 12)), ("t10k", slice(12, 17))):
        images, targets = pixels[chosen], labels[chosen]
        header = struct.pack(">IIII", 0x803, len(images), 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(images)) + targets.tobytes())
    return pixels


@pytest.mark.parametrize(
    ("source", "name"),
    [("MNIST", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("k_mnist", "KMNIST"), ("torchvision:mnist", "MNIST")],
)
def test_the_mnist_family_is_read(tmp_path: Path, source: str, name: str) -> None:
    pixels = write_idx(tmp_path, name)
    sets = open_labeled(DataConfig(source=source, root=str(tmp_path)))
    assert (len(sets.train), len(sets.val), sets.channels, sets.native_size) == (12, 5, 1, (28, 28))
    assert len(sets.classes) == 10
    assert sets.val.labels == [2, 3, 4, 5, 6]
    assert np.array_equal(sets.val.load(1).input, pixels[13])
    assert sets.val.name(1) == f"{name}/val/1"


def test_color_and_no_validation_part(tmp_path: Path) -> None:
    for i in range(10):
        folder = tmp_path / "eurosat" / "2750" / ("Forest", "River")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        datasets.FakeData(10, (3, 64, 64))[i][0].save(folder / f"{i}.jpg")
    sets = open_labeled(DataConfig(source="EuroSAT", root=str(tmp_path)))
    assert (len(sets.train), len(sets.val)) == (8, 2)
    assert (sets.classes, sets.channels) == (("Forest", "River"), 3)
    assert sorted(sets.val.labels) == [0, 1]
    numbers = [int(part.name(i).rsplit("/", 1)[1]) for part in (sets.train, sets.val) for i in range(len(part))]
    assert sorted(numbers) == list(range(10))
    assert sets.train.load(0).input.mode == "RGB"
    assert len(pickle.loads(pickle.dumps(sets)).train) == 8


def test_a_missing_dataset_names_the_flag_that_downloads_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        open_labeled(DataConfig(source="cifar-10", root=str(tmp_path)))
    message = str(raised.value)
    assert message.startswith(f"CIFAR10 cannot be read from {tmp_path}: Dataset not found")
    assert "--data.download" in message
    assert "--data.root" in message


def test_a_truncated_file_and_a_failed_download_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, "MNIST")
    cut = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(DataError, match="MNIST cannot be read from"):
        open_labeled(DataConfig(source="MNIST", root=str(tmp_path)))

    def unreachable(*_arguments: object, **_named: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(datasets.KMNIST, "download", unreachable)
    with pytest.raises(DataError, match=r"KMNIST could not be downloaded to .*no network"):
        open_labeled(DataConfig(source="KMNIST", root=str(tmp_path), download=True))


def test_a_misspelled_name_gets_a_suggestion() -> None:
    with pytest.raises(DataError, match=r"'fashonmnist' is neither .* Did you mean 'FashionMNIST'"):
        open_labeled(DataConfig(source="fashonmnist"))
    with pytest.raises(DataError, match=r"not one of torchvision's datasets.*Did you mean .*'CIFAR10'"):
        open_labeled(DataConfig(source="torchvision:cifar11"))


def test_every_name_is_a_class_of_torchvision_and_has_other_spellings() -> None:
    for name in TORCHVISION_SETS:
        assert hasattr(datasets, name)
        assert torchvision_name(name.lower()) == torchvision_name(f"torchvision:{name[:2]}-{name[2:]}") == name


def test_a_folder_of_that_name_is_preferred_unless_torchvision_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MNIST", "digits"):
        for number in range(4):
            folder = tmp_path / name / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            datasets.FakeData(4, (3, 9, 9))[number][0].save(folder / f"{number}.png")
    assert open_labeled(DataConfig(source="MNIST")).classes == ("a", "b")
    assert open_labeled(DataConfig(source="./digits")).classes == ("a", "b")
    assert len(open_labeled(DataConfig(source="digits")).classes) == 10
    with pytest.raises(DataError, match="MNIST cannot be read from data"):
        open_labeled(DataConfig(source="torchvision:MNIST"))
