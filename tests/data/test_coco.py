"""COCO's layout is read, masks are those of COCO's own tools, and faults are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_datasets import CATEGORIES, annotation, coco_set, document, square, write_part
from tiny_images import noise

from metaformer.data.coco import CocoDataset, open_coco
from metaformer.data.decode import UnreadableImage
from metaformer.data.rle import decode_runs, decompress, segmentation_mask
from metaformer.errors import DataError
from metaformer.recipe import DataConfig


def choice(root: Path, **changes: Any) -> DataConfig:
    return DataConfig(source=str(root), **changes)


def test_labels_are_in_the_order_of_the_category_ids(tmp_path: Path) -> None:
    sets = open_coco(choice(coco_set(tmp_path)))
    assert (len(sets.train), len(sets.val), sets.classes) == (3, 2, ("cat", "ball"))
    assert sets.has_masks
    assert not sets.held_out_here
    assert not sets.skipped
    image, objects = sets.train.load(1)
    assert (image.mode, image.size) == ("RGB", (20, 16))
    assert objects["boxes"].tolist() == [[2, 3, 8, 9]] * 2
    assert objects["boxes"].dtype == torch.float32
    assert sorted(objects["labels"].tolist()) == [0, 1]
    assert int(objects["image_id"]) == 1
    expected = torch.zeros(16, 20, dtype=torch.uint8)
    expected[3:9, 2:8] = 1
    assert torch.equal(objects["masks"], torch.stack([expected, expected]))


def test_an_image_without_objects_has_empty_tensors(tmp_path: Path) -> None:
    _, objects = open_coco(choice(coco_set(tmp_path))).train.load(2)
    shapes = {name: tuple(value.shape) for name, value in objects.items()}
    assert shapes == {"boxes": (0, 4), "labels": (0,), "image_id": (), "masks": (0, 16, 20)}


def test_the_ground_truth_has_indices_and_labels_in_place_of_ids(tmp_path: Path) -> None:
    content = document()
    runs = {"size": [16, 20], "counts": [0, 32, 288]}
    content["annotations"].append(annotation(500, 10, iscrowd=1, segmentation=runs, bbox=[0, 0, 2, 16], area=32))
    train = open_coco(choice(coco_set(tmp_path, content))).train
    assert isinstance(train, CocoDataset)
    truth = train.ground_truth()
    assert [image["id"] for image in truth["images"]] == [0, 1, 2]
    assert [category["id"] for category in truth["categories"]] == [1, 2]
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3, 4], "0 would count as not matched"
    assert [(a["image_id"], a["category_id"], a["iscrowd"]) for a in truth["annotations"]] == [
        (0, 1, 0),
        (0, 1, 1),
        (1, 1, 0),
        (1, 2, 0),
    ]
    crowd = truth["annotations"][1]
    assert (crowd["segmentation"], crowd["bbox"], crowd["area"]) == (runs, [0, 0, 2, 16], 32)
    assert (train.image_ids, train.category_ids) == ((10, 11, 12), (3, 7))
    assert len(train.load(0)[1]["labels"]) == 1, "a crowd is nothing to be trained on"
    assert "segmentation" not in train.boxes_only().ground_truth()["annotations"][0]


def test_a_missing_area_is_that_of_the_mask_or_the_box(tmp_path: Path) -> None:
    content = document()
    del content["annotations"][0]["area"]
    content["annotations"][0]["segmentation"] = square(2, 3, 4)
    train = open_coco(choice(coco_set(tmp_path, content))).train
    assert isinstance(train, CocoDataset)
    assert train.ground_truth()["annotations"][0]["area"] == 16
    assert train.boxes_only().ground_truth()["annotations"][0]["area"] == 36


@pytest.mark.parametrize("folder", ["images/", ""])
def test_images_are_found_in_images_or_beside_it(tmp_path: Path, folder: str) -> None:
    for split, content in (("train", document()), ("val", document(2, 50))):
        write_part(tmp_path, split, content, folder)
    sets = open_coco(choice(tmp_path))
    assert Path(sets.train.name(0)) == tmp_path / f"{folder}train" / "10.png"


def test_without_a_validation_part_images_are_held_out(tmp_path: Path) -> None:
    write_part(tmp_path, "train", document(10))
    sets = open_coco(choice(tmp_path, val_fraction=0.3))
    again = open_coco(choice(tmp_path, val_fraction=0.3))
    assert (len(sets.train), len(sets.val), sets.held_out_here) == (7, 3, True)
    names = [sets.val.name(i) for i in range(3)]
    assert names == [again.val.name(i) for i in range(3)]
    assert not set(names) & {sets.train.name(i) for i in range(7)}
    assert isinstance(sets.val, CocoDataset)
    for index in range(3):  # objects go with their images
        expected = sum(a["image_id"] == sets.val.image_ids[index] for a in document(10)["annotations"])
        assert len(sets.val.objects(index)["labels"]) == expected


def test_masks_of_some_objects_only_are_not_used_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = document()
    content["annotations"][0]["segmentation"] = []
    sets = open_coco(choice(coco_set(tmp_path, content)))
    assert not sets.has_masks
    assert "masks" not in sets.train.load(1)[1]
    assert "1 of 5 objects have no mask" in caplog.text


def spoil(part: str, index: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[part][index].update(changes)


def add(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"].append(annotation(500, 11, **changes))


def run_lengths(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return add(segmentation={"size": [16, 20], "counts": [320], **changes})


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], None], str, str]] = {
    "a size that is not the file's": (
        spoil("images", 0, width=21),
        "10.png",
        "image 10: the annotations are for 21 × 16 pixels, the image has 20 × 16",
    ),
    "an image on its side": (spoil("images", 0, width=16, height=20), "10.png", "turned on its side"),
    "an image id twice": (
        lambda content: content["images"].append({**content["images"][0], "file_name": "again.png"}),
        "again.png",
        "image 10: another image has this id",
    ),
    "a file twice": (spoil("images", 1, file_name="10.png"), "10.png", "image 11: image 10 is this file already"),
    "an image without a name": (
        spoil("images", 1, file_name=None),
        "train2017.json",
        "image 11: expected an integer id",
    ),
    "a size of nothing": (spoil("images", 1, width=0), "11.png", "image 11: expected a positive height and width"),
    "a missing image": (spoil("images", 2, file_name="absent.png"), "absent.png", "image 12: No such file"),
    "a box outside": (add(bbox=[30, 0, 5, 5]), "11.png", "annotation 500 of image 11: its box"),
    "a box that reaches over the edge": (add(bbox=[15, 0, 7, 5]), "11.png", "outside the image of 20 × 16"),
    "a box without width": (
        add(bbox=[2, 2, 0, 5]),
        "11.png",
        "annotation 500 of image 11: its box [2, 2, 0, 5] has no",
    ),
    "a box without height": (add(bbox=[2, 2, 5, -1]), "11.png", "has no area"),
    "a box of three numbers": (add(bbox=[2, 2, 5]), "11.png", "expected a bbox of four numbers"),
    "a box that is no number": (add(bbox=[2, 2, 5, float("nan")]), "11.png", "expected a bbox of four numbers"),
    "an unknown category": (add(category_id=4), "11.png", "annotation 500 of image 11: there is no category 4"),
    "an annotation id twice": (add(id=100), "11.png", "annotation 100 of image 11: another annotation has this id"),
    "an annotation without id": (add(id=None), "11.png", "annotation None of image 11: expected an integer id"),
    "an unknown image": (add(image_id=77), "train2017.json", "annotation 500: there is no image 77"),
    "a mask of another size": (run_lengths(size=[20, 16]), "11.png", "its mask is of size [20, 16]"),
    "a mask of too few pixels": (
        run_lengths(counts=[300]),
        "11.png",
        "its mask covers 300 pixels, the image has 320",
    ),
    "a mask of negative runs": (run_lengths(counts=[330, -10]), "11.png", "run lengths of 0 or more"),
    "a mask whose string is truncated": (run_lengths(counts="P:o"), "11.png", "truncated"),
    "a mask whose string is not one": (run_lengths(counts="é"), "11.png", "does not occur"),
    "a polygon of two points": (add(segmentation=[[1, 1, 2, 2]]), "11.png", "three points or more"),
    "a polygon of half a point": (add(segmentation=[[1, 1, 2, 2, 3, 3, 4]]), "11.png", "three points or more"),
    "a polygon of texts": (add(segmentation=[["1"] * 6]), "11.png", "finite numbers"),
    "a polygon of another image": (add(segmentation=square(10, 5, 90)), "11.png", "beyond the image of 20 × 16"),
    "a mask that is neither": (add(segmentation="x"), "11.png", "expected polygons or run lengths"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_with_its_file_and_id_or_skipped(tmp_path: Path, fault: str) -> None:
    change, file, reason = FAULTS[fault]
    content = document(4)
    root = coco_set(tmp_path, json.loads(json.dumps(content)))
    change(content)
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as raised:
        open_coco(choice(root))
    message = str(raised.value)
    assert message.startswith("1 fault in ")
    assert file in message
    assert reason in message
    assert "--data.on-bad-image skip" in message

    sets = open_coco(choice(root, on_bad_image="skip"))
    (left_out,) = sets.skipped
    assert file in left_out.path
    assert reason in left_out.reason
    of_an_image = left_out.reason.startswith("image")
    assert isinstance(sets.train, CocoDataset)
    images = len(content["images"]) - of_an_image
    assert len(sets.train) == images
    for index in range(len(sets.train)):
        sets.train.load(index)


def test_an_image_that_cannot_be_decoded_is_named_with_its_id(tmp_path: Path) -> None:
    root = coco_set(tmp_path)
    bad = root / "images" / "val2017" / "51.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(DataError, match=r"1 fault in .*\n.*51\.png: image 51: .*truncated"):
        open_coco(choice(root))
    sets = open_coco(choice(root, on_bad_image="skip"))
    assert (len(sets.train), len(sets.val)) == (3, 1)
    for verify in ("header", "none"):
        assert not open_coco(choice(root, verify=verify)).skipped
    with pytest.raises(UnreadableImage, match="truncated"):
        open_coco(choice(root, verify="none")).val.load(1)


def test_an_unverified_image_of_another_size_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    root = coco_set(tmp_path)
    noise(1, 17, 20).save(root / "images" / "train2017" / "10.png")
    with pytest.raises(UnreadableImage, match=r"10\.png.*for 20 × 16 pixels, the image has 20 × 17"):
        open_coco(choice(root, verify="none")).train.load(0)


def test_many_faults_are_counted_first_and_listed_in_part(tmp_path: Path) -> None:
    content = document()
    content["annotations"] += [annotation(500 + i, 11, bbox=[0, 0, 0, 0]) for i in range(30)]
    with pytest.raises(DataError) as raised:
        open_coco(choice(coco_set(tmp_path, content)))
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("30 faults in ")
    assert sum("has no area" in line for line in lines) == 20
    assert "and 10 more" in lines[21]
    assert "metaformer data check" in lines[21]


def test_boxes_that_are_rounded_over_the_edge_are_clipped(tmp_path: Path) -> None:
    content = document()
    content["annotations"][0]["bbox"] = [-0.4, 2, 20.9, 14.5]
    train = open_coco(choice(coco_set(tmp_path, content))).train
    assert train.load(0)[1]["boxes"].tolist() == [[0, 2, 20, 16]]


WHOLE: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no images": (lambda content: content.update(images=[]), "names no image"),
    "no objects": (lambda content: content.update(annotations=[]), "no object in them"),
    "no categories": (lambda content: content.update(categories=[]), "names no category"),
    "no list of annotations": (lambda content: content.pop("annotations"), "expected a list of mappings under 'anno"),
    "a category twice": (
        lambda content: content.update(categories=[*CATEGORIES, {"id": 3, "name": "dog"}]),
        "category id 3 stands for 'cat' and for 'dog'",
    ),
    "a name twice": (
        lambda content: content.update(categories=[*CATEGORIES, {"id": 99, "name": CATEGORIES[0]["name"]}]),
        "two categories are called",
    ),
    "a category without a name": (lambda content: content.update(categories=[{"id": 3}]), "an integer id and a name"),
}


@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("skip", ["refuse", "skip"])
def test_a_file_that_cannot_be_used_as_a_whole_is_refused(tmp_path: Path, case: str, skip: str) -> None:
    change, message = WHOLE[case]
    content = document()
    change(content)
    coco_set(tmp_path)
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"instances_train2017\.json.*" + message):
        open_coco(choice(tmp_path, on_bad_image=skip))


def test_the_parts_share_their_categories(tmp_path: Path) -> None:
    fewer = {**document(2, 50), "categories": CATEGORIES[:1]}
    fewer["annotations"] = [annotation(1, 50, 7)]
    sets = open_coco(choice(coco_set(tmp_path / "fewer", val=fewer)))
    assert sets.val.load(0)[1]["labels"].tolist() == [1]
    other = {**document(2, 50), "categories": [{"id": 3, "name": "dog"}, CATEGORIES[0]]}
    with pytest.raises(DataError, match="category id 3 is 'dog' here and 'cat' in the training part"):
        open_coco(choice(coco_set(tmp_path / "other", val=other)))


def test_a_folder_in_another_layout_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no folder.*COCO's layout"):
        open_coco(choice(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"has no annotations/instances_train\*\.json"):
        open_coco(choice(tmp_path))
    coco_set(tmp_path)
    file = tmp_path / "annotations" / "instances_train2017.json"
    file.with_name("instances_train2014.json").write_text(file.read_text())
    with pytest.raises(DataError, match="has 2 training parts, instances_train2014"):
        open_coco(choice(tmp_path))
    file.with_name("instances_train2014.json").unlink()
    file.write_text(file.read_text()[:50])
    with pytest.raises(DataError, match=r"instances_train2017\.json cannot be read as JSON"):
        open_coco(choice(tmp_path))


def test_masks_are_those_of_cocos_own_tools() -> None:
    coco_mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.RandomState(0)
    for case in range(20):
        height, width = (int(side) for side in rng.randint(5, 60, 2))
        mask = (rng.rand(height, width) < rng.choice([0.02, 0.5, 0.98])).astype(np.uint8)
        packed = coco_mask.encode(np.asfortranarray(mask))
        text = packed["counts"].decode()
        assert np.array_equal(segmentation_mask({"size": [height, width], "counts": text}, height, width), mask)
        assert np.array_equal(decode_runs(decompress(text), height, width), mask)
        points = rng.rand(2, rng.randint(3, 9), 2) * [width, height]
        polygons = [[float(number) for number in polygon.ravel()] for polygon in points]
        whole = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))
        assert np.array_equal(segmentation_mask(polygons, height, width), whole), case


COUNTS = {"penn-fudan": (100, 249, 30, 71, 1), "bccd": (205, 2804, 87, 1137, 3), "coco-tiny": (80, 699, 76, 768, 80)}


@pytest.mark.parametrize("name", COUNTS)
def test_the_real_datasets_have_no_fault(shared_data: Path, name: str) -> None:
    train, train_objects, val, val_objects, classes = COUNTS[name]
    sets = open_coco(choice(shared_data / name, verify="header"))
    assert (len(sets.train), len(sets.val), len(sets.classes)) == (train, val, classes)
    assert sets.has_masks == (name != "bccd")
    for images, expected in ((sets.train, train_objects), (sets.val, val_objects)):
        assert isinstance(images, CocoDataset)
        assert sum(len(images.boxes_only().objects(i)["labels"]) for i in range(len(images))) == expected


def test_the_real_datasets_have_gaps_and_images_without_objects(shared_data: Path) -> None:
    sets = open_coco(choice(shared_data / "coco128", verify="none"))
    assert sets.held_out_here
    assert isinstance(sets.train, CocoDataset)
    assert (sets.train.category_ids[11:13], sets.classes[11:13]) == ((13, 14), ("stop sign", "parking meter"))
    both = [len(part.objects(i)["labels"]) for part in (sets.train, sets.val) for i in range(len(part))]
    assert (len(both), sum(both)) == (128, 929)
    assert 0 in both


def test_masks_of_real_objects_fill_their_boxes(shared_data: Path) -> None:
    train = open_coco(choice(shared_data / "penn-fudan", verify="none")).train
    for index in range(3):
        _, objects = train.load(index)
        for box, mask in zip(objects["boxes"], objects["masks"], strict=True):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == [int(side) for side in around]


def test_a_gray_image_is_loaded_in_color(tmp_path: Path) -> None:
    root = coco_set(tmp_path)
    Image.new("L", (20, 16), 90).save(root / "images" / "train2017" / "10.png")
    image, _ = open_coco(choice(root)).train.load(0)
    assert image.getpixel((3, 3)) == (90, 90, 90)
