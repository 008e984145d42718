"""The detections in one image: the container for metrics, drawings, COCO files and user code.

The fields have the names of supervision's ``Detections``. G detections, best first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.text import Text

from ...render.annotate import draw_detections
from .metrics import Kind
from .rle import Rle, decode, encode

if TYPE_CHECKING:
    from ...types import Objects

_LISTED = 10  # detections that a terminal lists one by one; drawings and files have all of them
_MASK_THRESHOLD = 0.5  # of the probability that a pixel belongs to the object (Mask R-CNN, section 3.1)


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no single truth value to compare by
class Detections:
    """The detections in one image. Masks are run lengths, so that the detections of a whole dataset fit in memory."""

    xyxy: NDArray[np.float64]
    """(G, 4) left, top, right, bottom in pixels."""
    confidence: NDArray[np.float64]
    """(G,) scores in [0, 1]."""
    class_id: NDArray[np.int64]
    """(G,) labels from 0 to K - 1."""
    rle: tuple[Rle, ...] | None = None
    """A mask for each detection; None for models without masks."""
    classes: tuple[str, ...] = ()
    """A name for each label."""
    image_id: int = 0
    """The image's index in its dataset, or its id in COCO results."""
    file: Path | None = None
    """The image's file, where it has one."""
    image: Image.Image | None = field(default=None, repr=False)
    """The image itself, to draw on; None where only metrics are computed."""

    @classmethod
    def of(
        cls,
        objects: Objects,
        image_id: int = 0,
        *,
        masks: bool,
        score: float = 0.0,
        classes: tuple[str, ...] = (),
        image: Image.Image | None = None,
    ) -> Self:
        """A detector's output for one image, moved to the CPU; only detections of at least ``score``.

        ``objects`` has ``boxes`` (G, 4), ``labels`` (G,), ``scores`` (G,) and, with ``masks``, ``masks`` (G, H, W):
        probabilities in the image's size.
        """
        kept = objects["scores"] >= score
        values = {name: objects[name][kept].detach().cpu().double().numpy() for name in ("boxes", "scores")}
        rle = None
        if masks:
            rle = encode((objects["masks"][kept].detach() > _MASK_THRESHOLD).byte().cpu().numpy())
        labels = objects["labels"][kept].cpu().numpy()
        return cls(
            xyxy=values["boxes"],
            confidence=values["scores"],
            class_id=labels,
            rle=rle,
            image_id=image_id,
            classes=classes,
            image=image,
        )

    def __len__(self) -> int:
        return len(self.class_id)

    def __getitem__(self, which: NDArray[np.bool_] | NDArray[np.integer] | slice) -> Self:
        """A selection of the detections by a boolean mask, indices or a slice, as in supervision."""
        indices = np.arange(len(self))[which]
        rle = None if self.rle is None else tuple(self.rle[i] for i in indices)
        return replace(
            self,
            xyxy=self.xyxy[indices],
            confidence=self.confidence[indices],
            class_id=self.class_id[indices],
            rle=rle,
        )

    def __iter__(self) -> Iterator[tuple[NDArray[np.float64], float, int]]:
        """Box, score and label of each detection."""
        return zip(self.xyxy, self.confidence.tolist(), self.class_id.tolist(), strict=True)

    @cached_property
    def mask(self) -> NDArray[np.bool_] | None:
        """(G, H, W), decoded at first use; None for models without masks."""
        if self.rle is None:
            return None
        if not self.rle:
            # np.stack refuses an empty list
            size = (0, 0) if self.image is None else (self.image.height, self.image.width)
            return np.zeros((0, *size), dtype=bool)
        return np.stack([decode(run) for run in self.rle]).astype(bool)

    @property
    def class_name(self) -> list[str]:
        """(G,) names."""
        return [self._name(label) for label in self.class_id.tolist()]

    def _name(self, label: int) -> str:
        return self.classes[label] if label < len(self.classes) else f"class {label}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; without masks, which are in ``to_coco``."""
        objects = [
            {
                "class": self._name(label),
                "index": label,
                "score": round(score, 6),
                "box": [round(edge, 2) for edge in box.tolist()],
            }
            for box, score, label in self
        ]
        return {"file": None if self.file is None else str(self.file), "objects": objects}

    def to_coco(self, kind: Kind | None = None, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Entries for COCO's results format; ``kind`` selects boxes or masks, None includes both.

        ``category_ids`` has the category id of each label; by default label + 1.
        """
        # COCO's boxes are left, top, width, height
        sizes = self.xyxy[:, 2:] - self.xyxy[:, :2]
        boxes = np.concatenate([self.xyxy[:, :2], sizes], axis=1).tolist()
        entries = []
        for index, (_, score, label) in enumerate(self):
            category = label + 1 if category_ids is None else category_ids[label]
            entry: dict[str, Any] = {"image_id": self.image_id, "category_id": category, "score": score}
            if kind != "mask":
                entry["bbox"] = boxes[index]
            if kind != "box" and self.rle is not None:
                entry["segmentation"] = self.rle[index]
            entries.append(entry)
        return entries

    def draw(self) -> Image.Image | None:
        """The image with boxes, masks and class names drawn on it; None where ``image`` is None."""
        if self.image is None:
            return None
        masks = None if self.mask is None else self.mask.astype(np.uint8)
        labels, scores = self.class_id.tolist(), self.confidence.tolist()
        return draw_detections(self.image, self.xyxy, labels, self.classes, scores=scores, masks=masks)

    def images(self) -> Mapping[str, Image.Image]:
        """The drawing."""
        drawing = self.draw()
        return {} if drawing is None else {".png": drawing}

    def __rich__(self) -> Text:
        """The file, then the surest detections."""
        lines = [f"  {score:7.2%}  {self._name(label)}" for _, score, label in self][:_LISTED]
        rest = self.class_name[_LISTED:]
        if rest:
            counts = sorted({name: rest.count(name) for name in rest}.items(), key=lambda pair: -pair[1])
            lines.append(f"  and {', '.join(f'{number} × {name}' for name, number in counts)}")
        # names of files and classes may have brackets, which rich would take for markup in a plain string
        return Text("\n".join([str(self.file or "image"), *(lines or ["  nothing above the score"]), ""]))
