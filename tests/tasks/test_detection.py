"""Laws of detection: the losses add up, and the metrics are pycocotools' on the same detections, however batched."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Mapping
from typing import Any

import coco_like as fake
import numpy as np
import pytest
import torch
from pycocotools import mask as reference
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn

from metaformer.errors import DataError, MissingExtraError
from metaformer.tasks.detection.detections import Detections
from metaformer.tasks.detection.objective import DetectionMetric, DetectionObjective
from metaformer.tasks.detection.rle import decode, encode
from metaformer.types import Batch, Objects

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium",
         "ar_large")  # fmt: skip


def pycocotools(truth: dict[str, Any], found: list[Objects], kind: str) -> COCOeval:
    """The reference's evaluation of the same detections, its masks encoded by itself."""
    results = []
    for image, objects in enumerate(found):
        for place in range(len(objects["labels"])):
            left, top, right, bottom = objects["boxes"][place].tolist()
            entry: dict[str, Any] = {"image_id": image, "category_id": int(objects["labels"][place]) + 1}
            entry["score"] = float(objects["scores"][place])
            if kind == "box":
                entry["bbox"] = [left, top, right - left, bottom - top]
            else:
                mask = (objects["masks"][place].numpy() > 0.5).astype(np.uint8)
                entry["segmentation"] = reference.encode(np.asfortranarray(mask))
            results.append(entry)
    api = COCO()
    api.dataset = copy.deepcopy(truth)
    api.createIndex()
    evaluation = COCOeval(api, api.loadRes(results), "bbox" if kind == "box" else "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def measured(truth: dict[str, Any], found: list[Objects], step: int = 3) -> DetectionMetric:
    metric = DetectionObjective(truth, fake.CLASSES, masks=True).metric()
    for start in range(0, len(found), step):
        part = found[start : start + step]
        metric.update(part, fake.batch(range(start, start + len(part))))
    return metric


@pytest.mark.parametrize("seed", [0, 7])
def test_the_twelve_metrics_of_boxes_and_of_masks_are_pycocotools(seed: int) -> None:
    truth = fake.ground_truth(seed=seed)
    assert any(entry["iscrowd"] for entry in truth["annotations"])
    assert len({entry["image_id"] for entry in truth["annotations"]}) < len(truth["images"])
    found = fake.detections(truth, seed + 1)
    metric = measured(truth, found)
    metrics = metric.compute([metric.part])
    expected = DetectionObjective(truth, fake.CLASSES, masks=True).metrics
    assert tuple(metrics) == tuple(metric.name for metric in expected)
    assert len(metrics) == 24
    assert all(0 <= value <= 1 for value in metrics.values())
    for kind in ("box", "mask"):
        expected = pycocotools(truth, found, kind).stats
        got = [metrics[f"{kind}_{name}"] for name in NAMES]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    assert 0.05 < metrics["mask_ap"] < 0.95


def test_tables_and_curves_are_pycocotools_too() -> None:
    truth = fake.ground_truth()
    found = fake.detections(truth)
    metric = measured(truth, found)
    ours, theirs = metric.average_precision([metric.part], "mask"), pycocotools(truth, found, "mask").eval
    assert [row.label for row in ours.classes] == [0, 1, 2]  # class 3 is predicted, and is in no ground truth
    for row in ours.classes:
        precision = theirs["precision"][:, :, row.label, 0, 2]
        assert row.ap == pytest.approx(precision.mean(), abs=1e-6)
        assert row.ap50 == pytest.approx(precision[0].mean(), abs=1e-6)
        assert row.ap75 == pytest.approx(precision[5].mean(), abs=1e-6)
        assert row.ar == pytest.approx(theirs["recall"][:, row.label, 0, 2].mean(), abs=1e-6)
        np.testing.assert_allclose(ours.curve(row.label), precision[0], atol=1e-6)
        np.testing.assert_allclose(ours.curve(row.label, iou_50=False), precision.mean(axis=0), atol=1e-6)
    wanted = [entry["category_id"] - 1 for entry in truth["annotations"] if not entry["iscrowd"]]
    assert [row.objects for row in ours.classes] == np.bincount(wanted).tolist()
    assert ours.curve().mean() == pytest.approx(ours.metrics["mask_ap50"])
    assert ours.curve(iou_50=False).mean() == pytest.approx(ours.metrics["mask_ap"])


def test_processes_together_give_the_same_bits() -> None:
    truth = fake.ground_truth()
    found = fake.detections(truth)
    objective = DetectionObjective(truth, fake.CLASSES, masks=True)
    whole, parts = objective.metric(), [objective.metric() for _ in range(3)]
    whole.update(found, fake.batch(range(len(found))))
    for rank, part in enumerate(parts):
        images = [*range(rank, len(found), 3), rank]  # one image twice, as a filled-up share would have it
        part.update([found[i] for i in images], fake.batch(images))
    carried = [pickle.loads(pickle.dumps(part.part)) for part in reversed(parts)]
    assert whole.compute(carried) == whole.compute([whole.part])


def test_perfect_detections_score_one_and_none_score_zero() -> None:
    truth = fake.ground_truth()
    truth["annotations"] = [entry for entry in truth["annotations"] if not entry["iscrowd"]]
    objective = DetectionObjective(truth, fake.CLASSES, masks=True)
    perfect, silent = objective.metric(), objective.metric()
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)}
    for image in range(len(truth["images"])):
        entries = [entry for entry in truth["annotations"] if entry["image_id"] == image]
        corners = torch.tensor([entry["bbox"] for entry in entries], dtype=torch.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        masks = [torch.from_numpy(decode(entry["segmentation"])) for entry in entries]
        objects = {
            "boxes": corners,
            "labels": torch.tensor([entry["category_id"] - 1 for entry in entries], dtype=torch.long),
            "scores": torch.ones(len(entries)),
            "masks": torch.stack(masks).float() if masks else torch.zeros(0, fake.SIDE, fake.SIDE),
        }
        perfect.update([objects], fake.batch([image]))
        silent.update([none | {"masks": torch.zeros(0, fake.SIDE, fake.SIDE)}], fake.batch([image]))
    best, worst = perfect.compute([perfect.part]), silent.compute([silent.part])
    assert {name for name in best if "_ar_1" not in name and best[name] < 1 - 1e-9} == set()
    assert set(worst.values()) == {0.0}
    assert worst.keys() == best.keys()


def test_an_area_without_objects_has_no_metric() -> None:
    truth = fake.ground_truth()
    for entry in truth["annotations"]:
        entry["area"] = 50.0
    metric = measured(truth, fake.detections(truth))
    metrics = metric.compute([metric.part])
    assert {"box_ap_small", "box_ar_small"} <= metrics.keys()
    assert not {"box_ap_medium", "box_ap_large", "box_ar_medium", "mask_ar_large"} & metrics.keys()


def test_the_ground_truth_is_left_as_it_was_and_may_number_its_objects_as_it_likes() -> None:
    truth = fake.ground_truth()
    found = fake.detections(truth)
    expected = measured(truth, found)
    for number, entry in enumerate(truth["annotations"]):
        entry["id"] = number  # from 0 on, which COCO's tools take for "not matched"
    before = copy.deepcopy(truth)
    metric = measured(truth, found)
    assert metric.compute([metric.part]) == expected.compute([expected.part])
    assert truth == before


def test_an_image_that_broke_since_is_left_out_of_the_ground_truth() -> None:
    truth = fake.ground_truth()
    found = fake.detections(truth)
    metric = DetectionObjective(truth, fake.CLASSES, masks=False).metric()
    metric.update(found[1:], fake.batch(range(1, len(found))))
    rest = copy.deepcopy(truth)
    rest["images"] = rest["images"][1:]
    rest["annotations"] = [entry for entry in rest["annotations"] if entry["image_id"] > 0]
    other = DetectionObjective(rest, fake.CLASSES, masks=False).metric()
    other.update(found[1:], fake.batch(range(1, len(found))))
    assert metric.compute([metric.part]) == other.compute([other.part])


def test_masks_survive_their_run_lengths() -> None:
    masks = (torch.rand(3, 7, 11, generator=torch.Generator().manual_seed(0)) > 0.5).byte().numpy()
    assert all((decode(run) == mask).all() for run, mask in zip(encode(masks), masks, strict=True))


def test_results_have_the_data_sets_own_numbers() -> None:
    (objects,) = fake.detections(fake.ground_truth(images=1), seed=3)
    found = Detections.of(objects, 139, masks=True)
    entries = found.to_coco(category_ids=(7, 1, 90, 13))
    assert len(entries) == len(objects["labels"]) > 0
    assert {entry["image_id"] for entry in entries} == {139}
    assert [entry["category_id"] for entry in entries] == [(7, 1, 90, 13)[label] for label in objects["labels"]]
    left, top, right, bottom = objects["boxes"][0].tolist()
    assert entries[0]["bbox"] == pytest.approx([left, top, right - left, bottom - top])
    assert set(entries[0]) == {"image_id", "category_id", "score", "bbox", "segmentation"}
    assert "segmentation" not in found.to_coco("box")[0]
    assert "bbox" not in found.to_coco("mask")[0]


class Losses(nn.Module):
    """Losses in training mode and detections in evaluation mode, as torchvision's detectors have them."""

    def forward(self, images: list[torch.Tensor], targets: list[Objects] | None = None) -> Any:
        if self.training:
            assert targets is not None
            return {"classes": torch.tensor(1.5), "boxes": torch.tensor(float(len(targets)))}
        return [{"boxes": torch.zeros(0, 4)} for _ in images]


def test_the_loss_is_the_sum_of_the_detectors_losses() -> None:
    objective = DetectionObjective(None, 3, masks=False)
    targets = [{"boxes": torch.zeros(0, 4), "labels": torch.tensor(labels)} for labels in ([0, 2], [1])]
    batch = Batch([torch.zeros(3, 4, 4)] * 2, targets)
    outputs = objective.forward(Losses(), batch)
    assert isinstance(outputs, dict)
    assert float(objective.loss(outputs, batch)) == 3.5
    assert len(objective.forward(Losses().eval(), batch)) == 2


def test_torchvisions_own_detector_trains_and_is_evaluated() -> None:
    model = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2, min_size=64, max_size=64)
    truth = {
        "images": [{"id": 0, "height": 32, "width": 32}],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [2, 3, 20, 22], "area": 440, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "thing"}],
    }
    objective = DetectionObjective(truth, 2, masks=False)
    target = {"boxes": torch.tensor([[2.0, 3, 22, 25]]), "labels": torch.tensor([0]), "image_id": torch.tensor(0)}
    batch = Batch([torch.rand(3, 32, 32)], [target])
    loss = objective.loss(objective.forward(model, batch), batch)
    assert loss.requires_grad
    assert torch.isfinite(loss)
    metric = objective.metric()
    with torch.no_grad():
        metric.update(objective.forward(model.eval(), batch), batch)
    assert 0 <= metric.compute([metric.part])["box_ap"] <= 1


@pytest.mark.parametrize("wrong", [3, 90, -1])
def test_a_label_without_a_class_is_refused(wrong: int) -> None:
    batch = Batch([torch.zeros(3, 4, 4)], [{"boxes": torch.zeros(1, 4), "labels": torch.tensor([wrong])}])
    with pytest.raises(DataError, match=f"from 0 to 2 for a model with 3 classes, got {wrong}"):
        DetectionObjective(None, 3, masks=False).forward(Losses(), batch)


def test_the_primary_metric_is_that_of_masks_where_there_are_any() -> None:
    boxes, masks = (DetectionObjective(None, 3, masks=masks) for masks in (False, True))
    assert (boxes.primary.name, masks.primary.name) == ("box_ap", "mask_ap")
    assert {boxes.primary} < set(boxes.metrics) < set(masks.metrics)


def spoiled(**changes: Any) -> Mapping[str, Any]:
    return fake.ground_truth() | changes


def test_a_ground_truth_that_cannot_be_measured_is_refused_before_training() -> None:
    with pytest.raises(DataError, match="at least one object"):
        DetectionObjective(spoiled(annotations=[]), fake.CLASSES, masks=False)
    with pytest.raises(DataError, match="from 0 to 1 for a model with 2 classes, got 2"):
        DetectionObjective(spoiled(), 2, masks=False)
    bare = [{k: v for k, v in entry.items() if k != "segmentation"} for entry in spoiled()["annotations"]]
    with pytest.raises(DataError, match=f"{len(bare)} of {len(bare)} have none"):
        DetectionObjective(spoiled(annotations=bare), fake.CLASSES, masks=True)
    with pytest.raises(DataError, match="no ground truth"):
        DetectionObjective(None, 3, masks=False).metric()


def test_detections_for_images_of_another_set_are_refused() -> None:
    metric = DetectionObjective(fake.ground_truth(), fake.CLASSES, masks=False).metric()
    metric.update(fake.detections(fake.ground_truth())[:1], fake.batch([77]))
    with pytest.raises(DataError, match="image 77 is not in the ground truth"):
        metric.compute([metric.part])
    with pytest.raises(DataError, match="expected objects in the 0 evaluated images"):
        metric.compute([[]])


def test_without_the_evaluator_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtraError, match=r"metaformer\[dense\]"):
        DetectionObjective(fake.ground_truth(), fake.CLASSES, masks=False)
