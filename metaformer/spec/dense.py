"""A detector or segmenter as data: the system, its backbone, the size of its images. No torch here.

The systems are those of "MetaFormer Is Actually What You Need for Vision", sections 4.2 and 4.3: RetinaNet and
Mask R-CNN for objects, Semantic FPN for a class at every pixel. ``model/dense/build.py`` turns a spec into modules.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

from ..errors import InputError, SpecError
from ..records import Record
from .input import ImageInput
from .mixer import Mixer
from .model import AnySpec

DETECTORS = ("retinanet", "mask_rcnn")
"""Systems for object detection."""
SEGMENTERS = ("semantic_fpn",)
"""Systems for semantic segmentation."""
MULTIPLE = 32
"""Sides of the images are padded to multiples of it, the stride of the coarsest published map."""
TITLES = {"retinanet": "RetinaNet", "mask_rcnn": "Mask R-CNN", "semantic_fpn": "Semantic FPN"}


@dataclass(frozen=True, kw_only=True)
class DenseSpec(Record):
    """A detector or segmenter as data."""

    error: ClassVar[type[InputError]] = SpecError
    tag: ClassVar[str] = "dense"

    system: Literal["retinanet", "mask_rcnn", "semantic_fpn"]
    """The heads on the backbone's feature maps."""
    backbone: AnySpec
    """The classifier whose stages give the feature maps; of its head only an isotropic model's final norm is kept."""
    num_classes: int
    """Number of classes, background not counted."""
    short_side: int = 800
    """Length of the short side after resizing, in pixels."""
    long_side: int = 1333
    """Limit of the long side, in pixels; where it is reached the short side is shorter."""
    square: bool = False
    """Resize every image to ``short_side`` × ``short_side``, for mixers tied to a grid."""

    def check(self) -> None:
        """Sizes fit together, and there is a class to predict."""
        self.expect(self.num_classes >= 1, "num_classes", "at least 1 class, background not counted", self.num_classes)
        of_images = isinstance(self.backbone.input, ImageInput)
        self.expect(of_images, "backbone", "a model of images", self.backbone.input)
        self.expect(self.short_side >= 1, "short_side", "a positive number of pixels", self.short_side)
        if not self.square:
            wanted = f"at least short_side, which is {self.short_side}"
            self.expect(self.long_side >= self.short_side, "long_side", wanted, self.long_side)
            return
        whole = self.short_side % MULTIPLE == 0
        self.expect(whole, "short_side", f"a multiple of {MULTIPLE} where square is on", self.short_side)
        side = (self.short_side, self.short_side)
        self.expect(
            self.backbone.img_size == side, "backbone.img_size", f"{side} as short_side says", self.backbone.img_size
        )

    @property
    def task(self) -> str:
        """The task of such a model."""
        return "detection" if self.finds_objects else "segmentation"

    @property
    def pipeline_tag(self) -> str:
        """The task's name on the Hugging Face hub."""
        return "object-detection" if self.finds_objects else "image-segmentation"

    @property
    def input(self) -> ImageInput:
        """The input: images, as squares of ``short_side`` where one size must be named."""
        return ImageInput(in_chans=self.in_chans, img_size=self.img_size)

    @property
    def finds_objects(self) -> bool:
        """Whether it is a detector; a segmenter otherwise."""
        return self.system in DETECTORS

    @property
    def finds_masks(self) -> bool:
        """Whether it predicts a mask for each object."""
        return self.system == "mask_rcnn"

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width in pixels that a square image is resized to."""
        return self.short_side, self.short_side

    @property
    def in_chans(self) -> int:
        """Channels of the image."""
        return self.backbone.in_chans

    @property
    def drop_path_rate(self) -> float:
        """Stochastic depth of the backbone's last block."""
        return self.backbone.drop_path_rate

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """The token mixer of each stage of the backbone."""
        return self.backbone.mixers

    @property
    def summary(self) -> str:
        """A short description, as part of a sentence."""
        return f"{TITLES[self.system]} on {self.backbone.summary}"

    def with_mixers(self, mixers: object) -> Self:
        """The same model with other token mixers in its backbone."""
        return self.with_changes(backbone=self.backbone.with_mixers(mixers))

    def with_changes(self, **changes: Any) -> Self:
        """A copy with some fields replaced; those that only the backbone has (``drop_path_rate``) are changed there.

        The backbone of a square model follows ``short_side``.
        """
        own = {field.name for field in fields(self)}
        backbone = changes.pop("backbone", self.backbone)
        inner = {name: changes.pop(name) for name in list(changes) if name not in own and hasattr(backbone, name)}
        # A square model's tables and matrices are built for short_side; without this the check would refuse the copy.
        if changes.get("square", self.square):
            side = changes.get("short_side", self.short_side)
            inner["img_size"] = (side, side)
        return super().with_changes(**changes, backbone=backbone.with_changes(**inner))

    @property
    def input_rows(self) -> list[tuple[str, str]]:
        """The system and the sizes it sees, as rows for a report."""
        size = f"short side {self.short_side}, long side at most {self.long_side} pixels"
        if self.square:
            size = f"{self.short_side} × {self.short_side} pixels"
        return [("System", TITLES[self.system]), ("Input", size)]
