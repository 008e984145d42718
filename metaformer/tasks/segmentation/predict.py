"""A segmenter and images in, label maps out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.text import Text

from ...data.transforms.paired import segmenter_input
from ...model.dense.detector import Segmenter
from ...render.annotate import class_color, draw_label_map, with_legend
from ..task import PredictionOptions
from .objective import resized


@dataclass(frozen=True)
class ClassShare:
    """One class of a label map and its share of the image's pixels."""

    name: str
    index: int
    share: float


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no single truth value to compare by
class LabelMap:
    """A segmenter's prediction for one image."""

    labels: NDArray[np.uint8] = field(repr=False)
    """(H, W) the label of each pixel, from 0."""
    classes: tuple[str, ...] = ()
    """A name for each label."""
    file: Path | None = None
    """The image's file, where it has one."""
    image: Image.Image | None = field(default=None, repr=False)

    @cached_property
    def shares(self) -> tuple[ClassShare, ...]:
        """The classes in the image, most frequent first."""
        values, pixels = np.unique(self.labels, return_counts=True)
        order = np.argsort(-pixels, kind="stable")  # classes of equal size keep their order
        pairs = zip(values[order].tolist(), (pixels[order] / self.labels.size).tolist(), strict=True)
        return tuple(ClassShare(self._name(label), label, share) for label, share in pairs)

    def _name(self, label: int) -> str:
        return self.classes[label] if label < len(self.classes) else f"class {label}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; the label map itself is in ``images``."""
        shares = [{"class": s.name, "index": s.index, "share": round(s.share, 6)} for s in self.shares]
        return {"file": None if self.file is None else str(self.file), "classes": shares}

    def draw(self) -> Image.Image | None:
        """The image with the label map drawn on it and a legend below; None where ``image`` is None."""
        if self.image is None:
            return None
        present = [one.index for one in self.shares]
        names = [self._name(label) for label in range(max(present, default=0) + 1)]
        return with_legend(draw_label_map(self.image, self.labels), present, names)

    def images(self) -> Mapping[str, Image.Image]:
        """The drawing, and the label map as a PNG with a palette: pixel values are labels, colors those of classes."""
        indexed = Image.frombytes("P", (self.labels.shape[1], self.labels.shape[0]), self.labels.tobytes())
        indexed.putpalette([part for label in range(256) for part in class_color(label)])
        drawing = self.draw()
        return ({} if drawing is None else {".png": drawing}) | {".labels.png": indexed}

    def __rich__(self) -> Text:
        """The file, then the classes, most frequent first."""
        # as Text, because names of files and classes may have brackets, which rich takes for markup
        return Text(
            "\n".join([str(self.file or "image"), *(f"  {one.share:7.2%}  {one.name}" for one in self.shares), ""])
        )


def predict(
    model: Segmenter, images: Sequence[Image.Image], classes: Sequence[str], options: PredictionOptions
) -> list[LabelMap]:
    """A label map for each image."""
    # one by one, because images differ in size
    return [
        LabelMap(labels=label_map(model, image, options.device), classes=tuple(classes), image=image)
        for image in images
    ]


@torch.no_grad()
def label_map(
    model: Segmenter,
    image: Image.Image,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> NDArray[np.uint8]:
    """(H, W) the most likely label of each pixel of an image in ``RGB``, at the size of the image."""
    training = model.training
    model.eval()
    pixels = segmenter_input(image, model.spec, model.preprocessing).to(device)
    with autocast():
        logits = model(pixels[None])[0]
    model.train(training)
    return resized(logits, (image.height, image.width)).argmax(dim=0).to(torch.uint8).cpu().numpy()
