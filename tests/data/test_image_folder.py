"""Folders of images: what is read, how it is split, and the message for a folder that is not a dataset."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaformer.data.dataset import hold_out_by_class
from metaformer.data.imagenet import sort_validation
from metaformer.data.sources import open_labeled
from metaformer.errors import DataError
from metaformer.recipe import DataConfig

Write = Callable[..., Path]


def opened(root: Path, **choice: object):
    return open_labeled(DataConfig(source=str(root), **choice))


def names(images) -> list[str]:
    return [images.name(i) for i in range(len(images))]


@pytest.mark.parametrize("val", ["val", "validation", "valid", "test", "Val"])
def test_train_and_val_with_a_folder_per_class(write_folder: Write, val: str) -> None:
    root = write_folder({"train/cat": 3, "train/dog": 2, f"{val}/cat": 1, f"{val}/dog": 2})
    sets = opened(root)
    assert sets.classes == ("cat", "dog")
    assert (sets.train.labels, sets.val.labels) == ([0, 0, 0, 1, 1], [0, 1, 1])
    assert (sets.channels, sets.native_size) == (3, (12, 10))
    assert names(sets.val)[0] == str(root / val / "cat" / "000.png")


def test_val_is_preferred_to_test_and_imagenet_ids_are_class_names(write_folder: Write) -> None:
    part = {"n01440764": 1, "n01443537": 1}
    root = write_folder({f"{split}/{name}": 1 for split in ("train", "test", "val") for name in part})
    sets = opened(root)
    assert sets.classes == ("n01440764", "n01443537")
    assert all("/val/" in name for name in names(sets.val))


def test_one_folder_is_split_within_each_class(write_folder: Write) -> None:
    root = write_folder({"a": 10, "b": 5, "c": 2, "d": 1})
    sets = opened(root, val_fraction=0.2)
    train, val = names(sets.train), names(sets.val)
    assert not set(train) & set(val)
    assert len(train) + len(val) == 18
    assert np.bincount(sets.val.labels, minlength=4).tolist() == [2, 1, 1, 0]
    again = opened(root, val_fraction=0.2)
    assert (names(again.train), names(again.val)) == (train, val)
    assert names(opened(root, split_seed=1).val) != val


def test_train_alone_or_beside_a_flat_test_folder_is_split(write_folder: Write) -> None:
    root = write_folder({"train/a": 5, "train/b": 5, "test": 3})
    assert len(opened(root).val) == 2
    assert len(opened(write_folder({"train/a": 5, "train/b": 5}, name="other")).val) == 2


def test_a_class_called_train_is_a_class(write_folder: Write) -> None:
    assert opened(write_folder({"bus": 2, "car": 2, "train": 2})).classes == ("bus", "car", "train")


def test_other_classes_do_not_change_a_split() -> None:
    _, alone = hold_out_by_class([0] * 20, ["cat"], 0.3, seed=5)
    _, between = hold_out_by_class([0] * 9 + [1] * 20, ["ape", "cat"], 0.3, seed=5)
    assert [i - 9 for i in between if i >= 9] == alone
    assert len(alone) == 6


def test_files_that_are_not_images_are_ignored(write_folder: Write) -> None:
    root = write_folder({"a": 2, "b": 2, "b/deeper": 1, ".cache": 1}, suffix=".PNG")
    for name in ("README.md", "a/.DS_Store", "a/Thumbs.db", "b/._000.png", ".hidden.png"):
        (root / name).write_bytes(b"not an image")
    (root / "a" / "link.png").symlink_to(root / "b" / "000.PNG")
    (root / "b" / "back").symlink_to(root / "b")
    sets = opened(root)
    assert sets.classes == ("a", "b")
    assert len(sets.train) + len(sets.val) == 6
    assert sets.skipped == ()


def test_sizes_that_differ_are_not_a_native_size(write_folder: Write) -> None:
    root = write_folder({"a": 2, "b": 2})
    Image.new("RGB", (10, 11)).save(root / "a" / "other.png")
    assert opened(root).native_size is None


def test_progress_is_reported(write_folder: Write) -> None:
    calls: list[tuple[str, int, int]] = []
    root = write_folder({"a": 2, "b": 2})
    open_labeled(DataConfig(source=str(root)), lambda *word: calls.append(word))
    assert calls[-1] == ("checking images", 4, 4)


def test_an_unsorted_imagenet_validation_folder_is_explained_and_the_advice_works(write_folder: Write) -> None:
    root = write_folder({"train/n01440764": 1, "train/n01443537": 1, "val": 2})
    for number, path in enumerate(sorted((root / "val").iterdir()), start=1):
        path.rename(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    with pytest.raises(DataError) as raised:
        opened(root)
    message = str(raised.value)
    for part in (str(root / "val"), "ILSVRC2012_val_00000001.JPEG", "0.1 %", "n01440764", "LOC_val_solution.csv"):
        assert part in message
    solution = root / "LOC_val_solution.csv"
    solution.write_text(
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000002,n01440764 1 2 3 4 n01440764 5 6 7 8\n"
        "ILSVRC2012_val_00000001,n01443537 1 2 3 4\n"
    )
    advice = re.search(r'-c "(from metaformer.*?)"', message)
    assert advice
    exec(advice[1].replace("LOC_val_solution.csv", str(solution)))
    assert opened(root).val.labels == [0, 1]
    assert names(opened(root).val)[0].endswith("val/n01440764/ILSVRC2012_val_00000002.JPEG")


def test_partly_sorted_imagenet_is_refused_and_an_incomplete_solution_moves_nothing(write_folder: Write) -> None:
    classes = ("n01440764", "n01443537")
    root = write_folder({f"{part}/{name}": 1 for part in ("train", "val") for name in classes})
    stray = root / "val" / "ILSVRC2012_val_00000007.JPEG"
    (root / "val" / "n01440764" / "000.png").rename(stray)
    with pytest.raises(DataError, match="not sorted into classes: 1 images"):
        opened(root)
    solution = root / "answers.csv"
    solution.write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,n01443537 1 2 3 4\n")
    with pytest.raises(DataError, match="no class for 1 images, such as ILSVRC2012_val_00000007"):
        sort_validation(root / "val", solution)
    assert stray.exists()
    with pytest.raises(DataError, match="cannot be read"):
        sort_validation(root / "val", root / "absent.csv")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "has no images. Expected a folder per class"),
        ({"a": 0, "b": 0}, "has no images. Expected a folder per class"),
        ({"a": 2, "b": 0}, "'b' in .*: a class folder without images"),
        ({"a": 2}, "has one class, 'a'"),
        ({".": 3}, "3 images such as 000.png directly in it"),
        ({"a": 1, "b": 1}, "leaves no image to evaluate on"),
        ({"deep/er/train/a": 1, "deep/er/val/a": 1}, "Did you mean .*deep/er"),
        ({"val/a": 1, "test/a": 1}, "has val/ but no train/"),
        ({"train": 3, "val/a": 1}, "3 images such as 000.png directly in it"),
        ({"train/a": 1, "train/b": 1, "val": 2}, "not sorted into classes: 2 images such as 000.png"),
        ({"train/a": 1, "train/b": 1, "val/a": 0}, "val has no images"),
        ({"train/a": 1, "train/b": 1, "val/a": 1}, "differ: 'b' only in train"),
        ({"train/a": 1, "train/b": 1, "val/a": 1, "val/c": 1, "val/b": 1}, "differ: 'c' only in val"),
        ({"train/a": 1, "train/b": 1, "val/A": 1, "val/b": 1}, "differ: 'A' only in val; 'a' only in train"),
    ],
)
def test_a_folder_that_is_not_a_dataset_is_explained(write_folder: Write, counts: dict[str, int], message: str) -> None:
    root = write_folder(counts)
    root.mkdir(exist_ok=True)
    with pytest.raises(DataError, match=message) as raised:
        opened(root)
    assert str(root) in str(raised.value)


def test_a_class_without_validation_images_keeps_an_empty_folder(write_folder: Write) -> None:
    root = write_folder({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 0})
    assert opened(root).val.labels == [0]


def test_a_missing_path_suggests_similar_names(write_folder: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder({"a": 2, "b": 2}, name="flowers")
    with pytest.raises(DataError, match=r"no folder .*flower. Did you mean 'flowers'\? \(in "):
        opened(root.parent / "flower")
    with pytest.raises(DataError, match="Did you mean 'flowers'"):
        opened(root.parent / "flowerz" / "train")
    (root.parent / "set.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"set.zip is a file; expected a folder: unpack it first"):
        opened(root.parent / "set.zip")
    monkeypatch.chdir(root.parent)
    with pytest.raises(DataError, match=r"'flowerz' is neither .* Did you mean 'flowers'"):
        opened(Path("flowerz"))
    with pytest.raises(DataError, match=r"data.source is empty"):
        open_labeled(DataConfig(source=" "))
