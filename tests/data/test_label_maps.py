"""ADE20K's layout is read, stored numbers become labels, and faults are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_datasets import label_map_set, labels_of
from tiny_images import noise

from metaformer.data.decode import UnreadableImage, read_label_map
from metaformer.data.label_maps import LabelEncoding, open_label_maps
from metaformer.errors import DataError
from metaformer.recipe import DataConfig


def choice(root: Path, **changes: Any) -> DataConfig:
    return DataConfig(source=str(root), **changes)


@pytest.mark.parametrize("names", [("training", "validation"), ("train", "val")])
def test_zero_is_ignored(tmp_path: Path, names: tuple[str, str]) -> None:
    sets = open_label_maps(choice(label_map_set(tmp_path, names=names)))
    assert (len(sets.train), len(sets.val)) == (3, 2)
    assert sets.classes == ("class 1", "class 2", "class 3")
    image, label_map = sets.val.load(0)
    assert (image.mode, image.size, label_map.dtype) == ("RGB", (20, 16), torch.int64)
    stored = torch.from_numpy(labels_of(100)).long()
    assert torch.equal(label_map, torch.where(stored == 0, 255, stored - 1))


def test_zero_can_be_a_class_and_another_number_ignored(tmp_path: Path) -> None:
    sets = open_label_maps(choice(label_map_set(tmp_path), reduce_zero_label=False, ignore_label=3))
    assert sets.classes == ("class 0", "class 1", "class 2")
    stored = torch.from_numpy(labels_of(1)).long()
    assert torch.equal(sets.train.load(1)[1], torch.where(stored == 3, 255, stored))


def test_names_and_number_of_classes_come_from_the_table(tmp_path: Path) -> None:
    root = label_map_set(tmp_path)
    (root / "classes.tsv").write_text("label\tid\tname\n0\t0\tnothing\n5\t9\tsea, water\n2\t8\tsand\n")
    assert open_label_maps(choice(root)).classes == ("class 1", "sand", "class 3", "class 4", "sea, water")
    (root / "classes.tsv").unlink()
    (root / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "".join(f"{i}\t0.1\t9\t9\t1\tname {i}\t\n" for i in range(1, 4))
    )
    assert open_label_maps(choice(root)).classes == ("name 1", "name 2", "name 3")


@pytest.mark.parametrize(
    "content", ["label\tname\nx\tsand\n", "number\tname\n1\tsand\n", "label\tname\n", "label\n1\n"]
)
def test_a_table_without_classes_is_refused(tmp_path: Path, content: str) -> None:
    root = label_map_set(tmp_path)
    (root / "classes.tsv").write_text(content)
    with pytest.raises(DataError, match=r"classes\.tsv"):
        open_label_maps(choice(root))


def test_without_a_validation_part_images_are_held_out(tmp_path: Path) -> None:
    root = label_map_set(tmp_path, train=8)
    (root / "images" / "validation").rename(root / "elsewhere")
    sets = open_label_maps(choice(root, val_fraction=0.25))
    assert (len(sets.train), len(sets.val), sets.held_out_here) == (6, 2, True)
    for part in (sets.train, sets.val):
        for index in range(len(part)):
            stored = labels_of(int(Path(part.name(index)).stem)).astype(int)
            assert np.array_equal(part.load(index)[1].numpy(), np.where(stored == 0, 255, stored - 1))


@pytest.mark.parametrize("mode", ["P", "I;16", "1"])
def test_palettes_and_other_depths_are_read_as_numbers(tmp_path: Path, mode: str) -> None:
    stored = labels_of(4, classes=1)
    image = Image.fromarray(stored.astype(np.uint16) if mode == "I;16" else stored)
    if mode == "P":
        image = image.convert("P")
        image.putpalette([i for i in range(256) for _ in range(3)][::-1])
        image.putdata(stored.ravel().tolist())
    if mode == "1":
        image = Image.fromarray(stored.astype(bool))
    image.save(tmp_path / "map.png")
    assert np.array_equal(read_label_map(tmp_path / "map.png"), stored)


def colors(path: Path) -> None:
    noise(1, 16, 20).save(path)


def numbers(*values: int, height: int = 16) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        stored = labels_of(1, height)
        stored[0, : len(values)] = values
        Image.fromarray(stored).save(path)

    return write


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


FAULTS: dict[str, tuple[str, Callable[[Path], None], str, str]] = {
    "a number beyond the classes": (
        "annotations/training/1.png",
        numbers(9, 7),
        "1.png",
        "it has the label 7, 9; expect",
    ),
    "a label map of another size": (
        "annotations/training/1.png",
        numbers(height=15),
        "images/training/1.png",
        "1.png has 20 × 15 pixels, the image 20 × 16",
    ),
    "a label map of colors": ("annotations/training/1.png", colors, "1.png", "one channel of integers"),
    "a label map that is cut": ("annotations/training/1.png", cut, "annotations/training/1.png", "truncated"),
    "an image that is cut": ("images/training/1.png", cut, "images/training/1.png", "truncated"),
    "an image without label map": ("annotations/training/1.png", Path.unlink, "images/training/1.png", "no label map"),
    "a label map without image": ("images/training/1.png", Path.unlink, "annotations/training/1.png", "is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_with_its_file_or_skipped(tmp_path: Path, fault: str) -> None:
    spoiled, change, file, reason = FAULTS[fault]
    root = label_map_set(tmp_path)
    (root / "classes.tsv").write_text("label\tname\n1\ta\n2\tb\n3\tc\n")
    change(root / spoiled)
    with pytest.raises(DataError) as raised:
        open_label_maps(choice(root))
    message = str(raised.value)
    assert message.startswith("1 fault in ")
    assert file in message
    assert reason in message
    assert "--data.on-bad-image skip" in message
    sets = open_label_maps(choice(root, on_bad_image="skip"))
    (left_out,) = sets.skipped
    assert left_out.path.endswith(file)
    assert reason in left_out.reason
    assert [Path(sets.train.name(i)).stem for i in range(len(sets.train))] == ["0", "2"]


def test_unverified_faults_are_found_when_they_are_loaded(tmp_path: Path) -> None:
    root = label_map_set(tmp_path)
    (root / "classes.tsv").write_text("label\tname\n1\ta\n2\tb\n3\tc\n")
    numbers(4)(root / "annotations" / "training" / "0.png")
    numbers(height=15)(root / "annotations" / "training" / "1.png")
    train = open_label_maps(choice(root, verify="none")).train
    with pytest.raises(UnreadableImage, match=r"annotations/training/0\.png.*it has the label 4"):
        train.load(0)
    with pytest.raises(UnreadableImage, match=r"images/training/1\.png.*20 × 15"):
        train.load(1)
    with pytest.raises(DataError, match="20 × 15"):
        open_label_maps(choice(root, verify="header"))


def test_a_part_without_labeled_pixels_is_refused(tmp_path: Path) -> None:
    root = label_map_set(tmp_path)
    for path in (root / "annotations" / "validation").iterdir():
        Image.new("L", (20, 16)).save(path)
    with pytest.raises(DataError, match="validation: every pixel of every label map is ignored"):
        open_label_maps(choice(root))
    for path in (root / "annotations" / "validation").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="validation has no label map"):
        open_label_maps(choice(root))
    for path in (root / "images" / "validation").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="validation has no image"):
        open_label_maps(choice(root))


def test_a_folder_in_another_layout_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no folder.*ADE20K's layout"):
        open_label_maps(choice(tmp_path / "absent"))
    with pytest.raises(DataError, match="has no images/training"):
        open_label_maps(choice(tmp_path))


def test_more_than_255_classes_are_refused() -> None:
    with pytest.raises(DataError, match="at most 255 classes in label maps, got 256"):
        LabelEncoding(("class",) * 256, True, 255)


REAL = {
    "camvid": ({"reduce_zero_label": False, "ignore_label": 11}, 367, 101, 11),
    "coco-semantic": ({}, 100, 50, 133),
    "ade20k-samples": ({}, 3, 2, 150),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_datasets_have_no_fault(shared_data: Path, name: str) -> None:
    changes, train, val, classes = REAL[name]
    sets = open_label_maps(choice(shared_data / name, **changes))
    assert (len(sets.train), len(sets.val), len(sets.classes)) == (train, val, classes)
    image, label_map = sets.val.load(0)
    assert label_map.shape == (image.height, image.width)
    found = set(label_map.unique().tolist()) - {255}
    assert found
    assert max(found) < classes
