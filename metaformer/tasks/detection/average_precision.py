"""COCO's average precision: the truth of a set and what a model found in it, to twelve figures, tables and curves.

The counting is faster-coco-eval's, which matches objects as pycocotools does. Letters: G objects of an image,
K classes, T = 10 overlaps (IoU .50, .55, ... .95), R = 101 recalls (0, .01, ... 1), A areas, M limits of objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, MissingExtraError
from ...types import Objects

Kind = Literal["box", "mask"]
Rle = dict[str, Any]
"""A mask as COCO writes it: ``size`` (H, W) and ``counts``, the lengths of its runs as a string."""

AREAS = ("", "small", "medium", "large")  # the order of the library's results
"""Objects of any area, below 32², from there to 96², and above, in pixels of the image."""
LIMITS = (1, 10, 100)
"""Most objects that count in an image, surest first."""
RECALLS = np.linspace(0, 1, 101)
"""Where a precision-recall curve is read."""
_IOU_50, _IOU_75 = 0, 5
_MASK_LEVEL = 0.5  # probability from which a pixel belongs to a found mask


def figure_names(kind: Kind) -> tuple[str, ...]:
    """COCO's twelve figures in its own order: ``box_ap``, ``box_ap50``, ..., ``box_ar_large``."""
    sizes = [name for name in AREAS if name]
    names = ["ap", "ap50", "ap75", *(f"ap_{name}" for name in sizes)]
    names += [f"ar_{limit}" for limit in LIMITS] + [f"ar_{name}" for name in sizes]
    return tuple(f"{kind}_{name}" for name in names)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a model found in one image, small enough to be kept for a whole set: masks are run lengths."""

    image: int
    """Its index in the set."""
    boxes: NDArray[np.float64]
    """(G, 4) left, top, right, bottom in pixels."""
    scores: NDArray[np.float64]
    """(G,) best first."""
    labels: NDArray[np.int64]
    """(G,) from 0 to K - 1."""
    masks: tuple[Rle, ...] | None = None
    """One for each object, where masks were asked for."""

    def results(
        self, kind: Kind | None = None, category_ids: Sequence[int] | None = None, image_id: int | str | None = None
    ) -> list[dict[str, Any]]:
        """Entries of a COCO results list: with ``kind``, boxes or masks alone; without, whatever there is.

        ``category_ids`` gives a label's category where it is not label + 1, ``image_id`` what stands for the image.
        """
        place = self.image if image_id is None else image_id
        entries = []
        boxes = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1).tolist()
        for index, (label, score) in enumerate(zip(self.labels.tolist(), self.scores.tolist(), strict=True)):
            category = label + 1 if category_ids is None else category_ids[label]
            entry: dict[str, Any] = {"image_id": place, "category_id": category, "score": score}
            if kind != "mask":
                entry["bbox"] = boxes[index]
            if kind != "box" and self.masks is not None:
                entry["segmentation"] = self.masks[index]
            entries.append(entry)
        return entries


def found_in(objects: Objects, image: int, masks: bool) -> Found:
    """What stands in a detector's answer for one image, brought to the CPU.

    ``objects`` has ``boxes`` (G, 4), ``labels`` (G,), ``scores`` (G,) and, with ``masks``, ``masks`` (G, H, W) of
    probabilities in the image's size, which are cut at one half.
    """
    arrays = {name: objects[name].detach().cpu().double().numpy() for name in ("boxes", "scores")}
    runs = None
    if masks:
        inside = (objects["masks"].detach() > _MASK_LEVEL).byte().cpu().numpy()
        runs = encoded(inside)
    return Found(
        image=image, boxes=arrays["boxes"], scores=arrays["scores"], labels=objects["labels"].cpu().numpy(),
        masks=runs,
    )  # fmt: skip


def encoded(masks: NDArray[np.uint8]) -> tuple[Rle, ...]:
    """Masks (G, H, W) of zeros and ones as run lengths."""
    if not len(masks):
        return ()
    columns = np.asfortranarray(masks.transpose(1, 2, 0))
    runs = evaluator().mask.encode(columns)
    return tuple({"size": [int(side) for side in run["size"]], "counts": run["counts"].decode()} for run in runs)


def decoded(run: Rle) -> NDArray[np.uint8]:
    """The mask (H, W) of zeros and ones."""
    return evaluator().mask.decode({"size": run["size"], "counts": run["counts"].encode()})


@dataclass(frozen=True, kw_only=True)
class ClassPrecision:
    """How well objects of one class were found; shares in [0, 1]."""

    label: int
    objects: int
    """In the truth, crowds left out."""
    ap: float
    """Mean over the overlaps."""
    ap50: float
    ap75: float
    ar: float
    """Recall with 100 objects an image, mean over the overlaps."""


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """What an evaluation of boxes or of masks came to; -1 stands where the truth has no such object."""

    kind: Kind
    precision: NDArray[np.float64]
    """(T, R, K, A, M)."""
    recall: NDArray[np.float64]
    """(T, K, A, M)."""
    objects: NDArray[np.int64]
    """(K,) in the truth, crowds left out."""

    @property
    def figures(self) -> dict[str, float]:
        """COCO's twelve, as ``box_ap``, ``box_ap50``, ..., ``box_ar_1``, ...; areas without an object are left out."""
        whole = self.precision[..., 0, -1]
        values = [_mean(whole), _mean(whole[_IOU_50]), _mean(whole[_IOU_75])]
        values += [_mean(self.precision[..., area, -1]) for area in range(1, len(AREAS))]
        values += [_mean(self.recall[..., 0, place]) for place in range(len(LIMITS))]
        values += [_mean(self.recall[..., area, -1]) for area in range(1, len(AREAS))]
        named = zip(figure_names(self.kind), values, strict=True)
        return {name: value for name, value in named if value is not None}

    @property
    def classes(self) -> list[ClassPrecision]:
        """A row for each class that the truth has."""
        rows = []
        for label in np.flatnonzero(self.objects).tolist():
            precision = self.precision[:, :, label, 0, -1]
            rows.append(
                ClassPrecision(
                    label=label,
                    objects=int(self.objects[label]),
                    ap=float(precision.mean()),
                    ap50=float(precision[_IOU_50].mean()),
                    ap75=float(precision[_IOU_75].mean()),
                    ar=float(self.recall[:, label, 0, -1].mean()),
                )
            )
        return rows

    def curve(self, label: int | None = None, iou_50: bool = True) -> NDArray[np.float64]:
        """(R,) precision at each of ``RECALLS``: of one class or the mean of those the truth has, at an overlap of .5
        or the mean over all overlaps."""
        labels = np.flatnonzero(self.objects) if label is None else np.array([label])
        precision = self.precision[:, :, labels, 0, -1].mean(axis=2)
        return precision[_IOU_50] if iou_50 else precision.mean(axis=0)


def _mean(values: NDArray[np.float64]) -> float | None:
    there = values[values > -1]
    return float(there.mean()) if there.size else None


class Truth:
    """The objects of a set, checked once and never changed: every evaluation works on copies of its entries."""

    def __init__(self, ground_truth: Mapping[str, Any], num_classes: int, masks: bool) -> None:
        self.num_classes = num_classes
        self._images = [dict(image) for image in ground_truth["images"]]
        self.images = {int(image["id"]) for image in self._images}
        entries = ground_truth["annotations"]
        self._objects = [_complete(entry, number) for number, entry in enumerate(entries, start=1)]
        if all(entry["iscrowd"] for entry in self._objects):
            raise DataError(
                "the images to evaluate on: expected at least one object in them, got none, so nothing could be "
                "measured; give validation images with objects"
            )
        wrong = sorted({entry["category_id"] - 1 for entry in self._objects} - set(range(num_classes)))
        if wrong:
            raise DataError(
                f"the images to evaluate on: expected labels from 0 to {num_classes - 1} for a model with "
                f"{num_classes} classes, got {wrong[0]}; build the model with num_classes equal to the data's"
            )
        if masks:
            bare = sum("segmentation" not in entry for entry in self._objects)
            if bare:
                raise DataError(
                    f"the images to evaluate on: expected a mask for every object, {bare} of {len(self._objects)} "
                    "have none; train a detector of boxes on them (retinanet)"
                )

    def evaluate(self, found: Sequence[Found], kind: Kind) -> AveragePrecision:
        """Match what was found with the truth of those images; ``kind`` says by the overlap of what.

        An image that was not looked at, because its file broke since, is left out of the truth too.

        Raises:
            DataError: an image that the truth does not have, or images without any object.
        """
        seen = {one.image for one in found}
        if not seen <= self.images:
            raise DataError(f"detection: the ground truth has no image {min(seen - self.images)}, expected its own")
        entries = [dict(entry) for entry in self._objects if entry["image_id"] in seen]
        labels = [entry["category_id"] - 1 for entry in entries if not entry["iscrowd"]]
        if not labels:
            raise DataError(f"detection: expected objects in the {len(seen)} images evaluated, their truth has none")
        library = evaluator()
        truth = library.COCO(
            {
                "images": [image for image in self._images if image["id"] in seen],
                "annotations": entries,
                "categories": [{"id": label + 1, "name": str(label)} for label in range(self.num_classes)],
            }
        )
        results = [entry for image in found for entry in image.results(kind)]
        counting = library.COCOeval_faster(truth, truth.loadRes(results), "bbox" if kind == "box" else "segm")
        counting.evaluate()
        counting.accumulate()
        return AveragePrecision(
            kind=kind,
            precision=np.asarray(counting.eval["precision"]),
            recall=np.asarray(counting.eval["recall"]),
            objects=np.bincount(labels, minlength=self.num_classes),
        )


def _complete(entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    """An annotation with what COCO's tools want of it: an id of its own, which must not be 0 ("not matched")."""
    whole = dict(entry) | {"id": number}
    whole["iscrowd"] = int(entry.get("iscrowd", 0))
    whole.setdefault("area", entry["bbox"][2] * entry["bbox"][3])
    return whole


def evaluator() -> ModuleType:
    """faster-coco-eval, imported where it is needed.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import faster_coco_eval
    except ImportError:
        raise MissingExtraError(
            "average precision and masks need faster-coco-eval, which is not installed. "
            "pip install 'metaformer[dense]' brings it"
        ) from None
    return faster_coco_eval
