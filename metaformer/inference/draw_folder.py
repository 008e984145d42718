"""``metaformer predict`` for detectors and segmenters: images in, drawings, COCO results and label maps out.

Into the output folder go ``NAME.png``, the image with the answer drawn on it, and beside it ``results.json`` (a
detector's objects as COCO's results) or ``NAME.labels.png`` (a segmenter's classes, a number a pixel).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..data.decode import UnreadableImage, read_image
from ..data.sets import BadFile
from ..data.transforms.paired import detector_input
from ..errors import DataError
from ..render.annotate import class_color, draw_detections, draw_label_map, with_legend
from ..run.folder import CONFIG
from ..tasks.dense.evaluate import label_map
from ..tasks.detection.average_precision import Found, decoded, found_in
from ..weights.safetensors_io import replace_file
from .loaded import LoadedModel
from .predictor import expanded

RESULTS = "results.json"
_LISTED = 10
"""Objects of an image that a terminal shows one by one; the drawing and the results have all."""


@dataclass(frozen=True)
class SeenObject:
    """One object in an image."""

    name: str
    label: int
    score: float
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class SeenClass:
    """One class in a label map."""

    name: str
    label: int
    share: float
    """Of the image's pixels."""


@dataclass(frozen=True, kw_only=True)
class DensePrediction:
    """What a model sees in one image."""

    file: Path
    drawing: Path
    """The PNG with the answer drawn on the image."""
    objects: tuple[SeenObject, ...] = ()
    """A detector's, best first."""
    shares: tuple[SeenClass, ...] = ()
    """A segmenter's classes, largest first."""
    labels: Path | None = None
    """The PNG with a class a pixel."""

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        plain: dict[str, Any] = {"file": str(self.file), "drawing": str(self.drawing)}
        if self.labels is None:
            return plain | {"objects": [_plain_object(one) for one in self.objects]}
        shares = [{"class": one.name, "index": one.label, "share": round(one.share, 6)} for one in self.shares]
        return plain | {"labels": str(self.labels), "classes": shares}


def _plain_object(one: SeenObject) -> dict[str, Any]:
    box = [round(edge, 2) for edge in one.box]
    return {"class": one.name, "index": one.label, "score": round(one.score, 6), "box": box}


@dataclass(frozen=True, kw_only=True)
class DensePredictions:
    """Answers, and the files that were no images."""

    answers: tuple[DensePrediction, ...]
    skipped: tuple[BadFile, ...] = ()
    results: Path | None = None
    """A detector's objects in all images as COCO's results."""


def predict_dense(
    trained: LoadedModel,
    paths: Sequence[str | Path],
    out: Path,
    *,
    score: float = 0.5,
    device: torch.device | str = "cpu",
    on_bad_image: Literal["refuse", "skip"] = "refuse",
    category_ids: Sequence[int] | None = None,
    each_image: Callable[[int, int], None] = lambda done, total: None,
) -> DensePredictions:
    """Draw what a detector or a segmenter sees in every image, and write it down.

    In ``results.json`` an image's ``image_id`` is the number it is named by, as COCO's images are, or where not all
    are, its place among ``paths`` from 1 on; its ``file_name`` stands beside. In ``NAME.labels.png`` a pixel's value is
    its label, from 0 on, and the palette has the drawing's colors.

    Args:
        trained: the model.
        paths: files, folders (all images below them) and patterns such as ``photos/*.jpg``.
        out: the folder to write to; not one of the images' own.
        score: least score of an object that is drawn and written.
        device: where to compute.
        on_bad_image: stop at a file that is no image, or leave it out and go on.
        category_ids: a data set's own number for each label; label + 1 where left out.
        each_image: told how many are done, of how many.

    Raises:
        DataError: nothing there, no image among it, an unreadable file that was not to be skipped, or an ``out`` that
            holds images which would be overwritten.
    """
    files = expanded(paths)
    _expect_free(out, files)
    out.mkdir(parents=True, exist_ok=True)
    trained.model.to(device).eval()
    spec: Any = trained.model.spec
    detects = bool(spec.finds_objects)
    answers: list[DensePrediction] = []
    skipped: list[BadFile] = []
    results: list[dict[str, Any]] = []
    names, ids = _names(files), _image_ids(files)
    for done, (file, name) in enumerate(zip(files, names, strict=True), start=1):
        image = _read(file, on_bad_image, skipped)
        if image is not None and detects:
            found = _objects(trained, image, score, device)
            entries = found.results(category_ids=category_ids, image_id=ids[done - 1])
            results += [entry | {"file_name": file.name} for entry in entries]
            answers.append(_drawn_objects(trained, file, image, found, out / f"{name}.png"))
        elif image is not None:
            labels = label_map(trained.model, image, device)
            answers.append(_drawn_labels(trained, file, image, labels, out, name))
        each_image(done, len(files))
    if not detects:
        return DensePredictions(answers=tuple(answers), skipped=tuple(skipped))
    replace_file(out / RESULTS, json.dumps(results).encode())
    return DensePredictions(answers=tuple(answers), skipped=tuple(skipped), results=out / RESULTS)


def _expect_free(out: Path, files: Sequence[Path]) -> None:
    """No image may be replaced by its own drawing, no run's folder filled with drawings."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; expected a folder for the drawings. Choose another with --out")
    if (out / CONFIG).is_file():
        raise DataError(f"{out} is a run's folder; choose another for the drawings with --out")
    if any(file.resolve().parent == out.resolve() for file in files):
        raise DataError(f"{out} holds the images themselves, which drawings could replace; choose another with --out")


def _names(files: Sequence[Path]) -> list[str]:
    """A name of its own for each file: its stem, with a number behind where one had it before."""
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        name, number = file.stem, 1
        while {name, f"{name}.labels"} & taken:
            number += 1
            name = f"{file.stem}-{number}"
        names.append(name)
        taken |= {name, f"{name}.labels"}
    return names


def _image_ids(files: Sequence[Path]) -> list[int]:
    """The numbers that files are named by, as in COCO, if all are; else their places."""
    numbers = [int(file.stem) for file in files if file.stem.isascii() and file.stem.isdigit()]
    return numbers if len(set(numbers)) == len(files) else list(range(1, len(files) + 1))


def _read(path: Path, on_bad_image: str, skipped: list[BadFile]) -> Image.Image | None:
    try:
        return read_image(path)
    except UnreadableImage as error:
        if on_bad_image == "refuse":
            raise DataError(f"{error}. Leave such files out with --on-bad-image skip") from None
        skipped.append(BadFile(error.name, error.reason))
        return None


def _objects(trained: LoadedModel, image: Image.Image, score: float, device: torch.device | str) -> Found:
    """What a detector is sure enough of in one image."""
    with torch.inference_mode():
        (answer,) = trained.model([detector_input(image).to(device)])
    sure = answer["scores"] >= score
    kept = {name: values[sure] for name, values in answer.items()}
    return found_in(kept, 0, masks="masks" in kept)


def _drawn_objects(trained: LoadedModel, file: Path, image: Image.Image, found: Found, place: Path) -> DensePrediction:
    labels, scores = found.labels.tolist(), found.scores.tolist()
    names = [trained.class_name(label) for label in range(trained.model.num_classes)]
    masks = None if found.masks is None else np.array([decoded(run) for run in found.masks], dtype=np.uint8)
    draw_detections(image, found.boxes, labels, names, scores=scores, masks=masks).save(place)
    boxes = [(left, top, right, bottom) for left, top, right, bottom in found.boxes.tolist()]
    seen = zip(labels, scores, boxes, strict=True)
    objects = tuple(SeenObject(names[label], label, sure, box) for label, sure, box in seen)
    return DensePrediction(file=file, drawing=place, objects=objects)


def _drawn_labels(
    trained: LoadedModel, file: Path, image: Image.Image, labels: NDArray[np.uint8], out: Path, name: str
) -> DensePrediction:
    names = [trained.class_name(label) for label in range(trained.model.num_classes)]
    there, pixels = np.unique(labels, return_counts=True)
    order = np.argsort(-pixels, kind="stable")
    largest = there[order].tolist()
    with_legend(draw_label_map(image, labels), largest, names).save(out / f"{name}.png")
    indexed = Image.frombytes("P", image.size, labels.tobytes())
    indexed.putpalette([part for label in range(256) for part in class_color(label)])
    indexed.save(out / f"{name}.labels.png")
    shares = (pixels[order] / labels.size).tolist()
    seen = tuple(SeenClass(names[label], label, share) for label, share in zip(largest, shares, strict=True))
    return DensePrediction(file=file, drawing=out / f"{name}.png", shares=seen, labels=out / f"{name}.labels.png")


def lines(prediction: DensePrediction) -> str:
    """One answer for a terminal: the file, where its drawing is, and what is in it, surest or largest first."""
    if prediction.labels is None:
        seen = [f"  {one.score:7.2%}  {one.name}" for one in prediction.objects[:_LISTED]]
        rest = Counter(one.name for one in prediction.objects[_LISTED:])
        seen += [f"  and {', '.join(f'{number} × {name}' for name, number in rest.most_common())}"] if rest else []
        seen = seen or ["  nothing above the score"]
    else:
        seen = [f"  {one.share:7.2%}  {one.name}" for one in prediction.shares]
    return "\n".join([f"{prediction.file} → {prediction.drawing}", *seen, ""])
