"""``metaformer data check`` counts what is in a dataset, lists faults, and has an exit status for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from tiny_datasets import annotation, coco_set, document, label_map_set
from tiny_images import noise

from metaformer.cli.app import main
from metaformer.errors import DataError
from metaformer.recipe import DataConfig
from metaformer.tasks.inspection import inspect_data
from metaformer.tasks.task import recognized_task


def class_folders(root: Path) -> Path:
    for part, count in (("train", 3), ("val", 2)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for i in range(count + (name == "dog")):
                noise(i, 12 + i, 10).save(root / part / name / f"{i}.png")
    return root


def crowded(root: Path) -> Path:
    """With a crowd, a large object and one category that nothing belongs to."""
    content = document(4)
    content["categories"] = [*content["categories"], {"id": 9, "name": "ghost"}]
    content["annotations"].append(annotation(400, 10, iscrowd=1))
    content["annotations"][0]["area"] = 5000
    return coco_set(root, content)


def test_a_detection_dataset_is_counted(tmp_path: Path) -> None:
    found = inspect_data(DataConfig(source=str(crowded(tmp_path))))
    assert (found.task, found.classes, found.has_masks) == ("detection", ("cat", "ball", "ghost"), True)
    train, val = found.parts
    assert (train.images, train.counts, train.occurs_in) == (4, (3, 1, 0), (3, 1, 0))
    assert (train.smallest, train.median, train.largest) == ((16, 20),) * 3
    objects = train.objects
    assert objects is not None
    assert (objects.objects, objects.crowds, objects.empty_images, objects.most) == (4, 1, 1, 2)
    assert (objects.mean, objects.small, objects.medium, objects.large) == (1.0, 0.75, 0.25, 0.0)
    assert val.counts == (1, 1, 0)
    assert not found.bad


def test_a_segmentation_dataset_is_counted(tmp_path: Path) -> None:
    root = label_map_set(tmp_path)
    for i in range(3):
        stored = Image.new("L", (20, 16), 1)
        stored.paste(2, (0, 0, 10, 16))
        stored.paste(0, (0, 0, 5, 16))
        stored.save(root / "annotations" / "training" / f"{i}.png")
    found = inspect_data(DataConfig(source=str(root)))
    train = found.parts[0]
    assert found.task == "segmentation"
    assert (train.counts, train.occurs_in, train.ignored) == ((480, 240, 0), (3, 3, 0), 0.25)
    assert train.median == (16, 20)


def test_a_classification_dataset_is_counted(tmp_path: Path) -> None:
    found = inspect_data(DataConfig(source=str(class_folders(tmp_path))))
    train, val = found.parts
    assert (found.task, found.classes) == ("classification", ("cat", "dog"))
    assert (train.counts, val.counts) == ((3, 4), (2, 3))
    assert (train.smallest, train.median, train.largest) == ((12, 10), (13, 10), (15, 10))


def test_the_task_is_recognized_by_the_layout(tmp_path: Path) -> None:
    roots = [crowded(tmp_path / "a"), label_map_set(tmp_path / "b"), class_folders(tmp_path / "c")]
    guessed = [recognized_task(DataConfig(source=str(root))).name for root in roots]
    assert guessed == ["detection", "segmentation", "classification"]
    with pytest.raises(DataError, match="ADE20K's layout"):
        inspect_data(DataConfig(source=str(roots[0])), "segmentation")


def test_it_prints_counts_and_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(crowded(tmp_path))]) == 0
    output = capsys.readouterr().out
    assert "detection with masks, 3 classes" in output
    assert "No problems found" in output
    assert "not in train: ghost" in output
    bars = {line.split()[0]: line.count("━") for line in output.splitlines() if line.split()[:1] in (["cat"], ["ball"])}
    assert bars["cat"] > bars["ball"] > 0
    assert "20 × 16" in output


def spoiled(root: Path) -> Path:
    content = document()
    content["annotations"].append(annotation(500, 11, bbox=[2, 2, 0, 0]))
    coco_set(root, content)
    image = root / "images" / "val2017" / "50.png"
    image.write_bytes(image.read_bytes()[:100])
    return root


def test_faults_are_listed_and_the_exit_status_is_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = spoiled(tmp_path)
    coco = json.loads((root / "annotations" / "instances_val2017.json").read_text())
    coco["annotations"].append(annotation(600, 51))
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(coco))
    assert main(["data", "check", str(root)]) == 2
    output = capsys.readouterr()
    assert "problems: 2" in output.out
    assert f"{root / 'images/train2017/11.png'}: annotation 500 of image 11: its box [2, 2, 0, 0]" in output.out
    assert f"{root / 'images/val2017/50.png'}: image 50:" in output.out
    assert "2 problems in" in output.err

    assert main(["data", "check", str(root), "--on-bad-image", "skip", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(fault["path"]).name for fault in found["bad"]] == ["11.png", "50.png"]
    assert [part["images"] for part in found["parts"]] == [3, 1]


def test_a_dataset_without_a_usable_image_lists_its_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(spoiled(tmp_path)), "--on-bad-image", "skip"]) == 2
    output = capsys.readouterr().err
    assert "50.png: image 50:" in output.replace("\n", "")


def test_a_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(tmp_path / "absent")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path), "--task", "detection"]) == 2
    assert "instances_train" in capsys.readouterr().err
