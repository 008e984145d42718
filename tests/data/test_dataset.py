"""What all datasets share: two parts joined into one, parts that are refused, and images without labels."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_decode import truncated
from tiny_datasets import annotation, coco_set, document, label_map_set, write_part

from metaformer.data.coco import CocoDataset, open_coco
from metaformer.data.dataset import ArrayDataset, Dataset, LabeledDataset, Splits, concatenate
from metaformer.data.label_maps import open_label_maps
from metaformer.data.sources import open_labeled, open_unlabeled
from metaformer.errors import DataError
from metaformer.recipe import DataConfig

Write = Callable[..., Path]


def names(dataset: Dataset) -> list[str]:
    return [dataset.name(i) for i in range(len(dataset))]


def arrays(labels: list[int]) -> ArrayDataset:
    return ArrayDataset(np.zeros((len(labels), 4, 4), np.uint8), labels, "zeros", list(range(len(labels))))


def test_two_labeled_parts_are_one_with_all_labels() -> None:
    splits = open_labeled(DataConfig())
    both = concatenate(splits.train, splits.val)
    assert isinstance(both, LabeledDataset)
    assert names(both) == names(splits.train) + names(splits.val)
    assert both.labels == [*splits.train.labels, *splits.val.labels]
    index = len(splits.train) + 5
    assert np.array_equal(both.load(index).input, splits.val.load(5).input)
    assert both.load(index).target == splits.val.labels[5]


def test_two_parts_with_label_maps_are_one(tmp_path: Path) -> None:
    splits = open_label_maps(DataConfig(source=str(label_map_set(tmp_path))))
    both = concatenate(splits.train, splits.val)
    assert not isinstance(both, LabeledDataset)
    assert names(both) == names(splits.train) + names(splits.val)
    assert torch.equal(both.load(3).target, splits.val.load(0).target)


@pytest.mark.parametrize("one_file", [True, False])
def test_two_parts_with_objects_are_one_with_other_image_ids(tmp_path: Path, one_file: bool) -> None:
    content = document(6)
    content["annotations"].append(annotation(900, 11, iscrowd=1))
    if one_file:
        write_part(tmp_path, "train", content)
    else:
        coco_set(tmp_path, content, document(3, first=50))
    splits = open_coco(DataConfig(source=str(tmp_path)))
    both = concatenate(splits.train, splits.val)
    assert isinstance(both, CocoDataset)
    assert names(both) == names(splits.train) + names(splits.val)
    for index in range(len(both)):
        beyond = index - len(splits.train)
        own = (splits.val.load(beyond) if beyond >= 0 else splits.train.load(index)).target
        target = both.load(index).target
        assert int(target["image_id"]) == index
        assert all(torch.equal(target[name], own[name]) for name in own.keys() - {"image_id"})
    truths = [dataset.ground_truth() for dataset in (both, splits.train, splits.val)]
    whole, first, second = (truth["annotations"] for truth in truths)
    assert [one["id"] for one in whole] == list(range(1, len(first) + len(second) + 1))
    shifted = [{**one, "image_id": one["image_id"] + len(splits.train)} for one in second]
    assert [{**one, "id": 0} for one in whole] == [{**one, "id": 0} for one in first + shifted]
    assert json.dumps(truths[0]["categories"]) == json.dumps(truths[1]["categories"])


def test_empty_parts_and_impossible_labels_are_refused() -> None:
    with pytest.raises(DataError, match="the validation part has no image"):
        Splits(arrays([0, 1]), arrays([]), ("a", "b"))
    with pytest.raises(DataError, match="the training part has labels from 0 to 2; expected 0 to 1 for 2 classes"):
        Splits(arrays([0, 2]), arrays([1]), ("a", "b"))


def test_images_without_labels_lie_anywhere_below_a_folder(write_folder: Write) -> None:
    root = write_folder({".": 4, "deep/er": 3, "other": 3, ".cache": 2})
    splits = open_unlabeled(DataConfig(source=str(root), val_fraction=0.3))
    assert (len(splits.train), len(splits.val), splits.held_out_here) == (7, 3, True)
    assert (splits.classes, splits.channels, splits.native_size) == ((), 3, (12, 10))
    together = names(splits.train) + names(splits.val)
    assert sorted(together) == sorted(str(path) for path in root.rglob("*.png") if ".cache" not in path.parts)
    assert names(open_unlabeled(DataConfig(source=str(root), val_fraction=0.3)).val) == names(splits.val)
    sample = pickle.loads(pickle.dumps(splits.train)).load(0)
    assert (sample.input.mode, sample.target) == ("RGB", None)


def test_train_and_val_are_the_parts_of_images_without_labels(write_folder: Write) -> None:
    root = write_folder({"train/a": 3, "train": 1, "val": 2})
    splits = open_unlabeled(DataConfig(source=str(root)))
    assert (len(splits.train), len(splits.val), splits.held_out_here) == (4, 2, False)


def test_bad_images_without_labels_are_refused_or_skipped(write_folder: Write) -> None:
    root = write_folder({".": 5})
    (root / "002.png").write_bytes(truncated("PNG"))
    with pytest.raises(DataError, match=r"1 of 5 image files cannot be used:\n.*002\.png"):
        open_unlabeled(DataConfig(source=str(root)))
    splits = open_unlabeled(DataConfig(source=str(root), on_bad_image="skip"))
    assert len(splits.train) + len(splits.val) == 4
    assert [Path(file.path).name for file in splits.skipped] == ["002.png"]
    with pytest.raises(DataError, match="has no images"):
        open_unlabeled(DataConfig(source=str(write_folder({"a": 0}, name="empty"))))


def test_a_dataset_known_by_name_can_be_used_without_its_labels() -> None:
    labeled, splits = open_labeled(DataConfig()), open_unlabeled(DataConfig())
    assert names(splits.val) == names(labeled.val)
    assert (splits.channels, splits.native_size, splits.classes) == (1, (8, 8), ())
    assert splits.train.load(3).target is None
    with pytest.raises(DataError, match=r"data\.source is empty"):
        open_unlabeled(DataConfig(source=" "))
