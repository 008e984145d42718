"""Detectors and segmenters: networks for dense prediction with the conventions of this library.

In: images. Out: losses or objects (``Detector``), scores for every pixel (``Segmenter``). Labels are 0 to K - 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ...errors import InputError
from ...spec.dense import DenseSpec
from ...types import Objects, Preprocessing
from ..inputs import check_images
from ..parameter_groups import Patterns, layer_patterns, without_decay
from ..timm_cnn import cnn_layer_patterns, cnn_without_decay
from .neck import PyramidNetwork
from .pyramid import CNNPyramid, Pyramid
from .semantic_fpn import SemanticHead, resize_map


class DenseModel(nn.Module):
    """Base of detectors and segmenters: spec, name, preprocessing, groups of parameters."""

    neck_name: str
    """Name of the module with the backbone and the pyramid network."""
    last_layers: tuple[str, ...]
    """Names of the layers whose shape depends on the classes."""

    def __init__(self, spec: DenseSpec, *, name: str, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.spec, self.name, self.preprocessing = spec, name, preprocessing

    @property
    def num_classes(self) -> int:
        """Number of classes, background not counted."""
        return self.spec.num_classes

    @property
    def neck(self) -> PyramidNetwork:
        """The pyramid network with the backbone in it."""
        neck = self.get_submodule(self.neck_name)
        assert isinstance(neck, PyramidNetwork)
        return neck

    @property
    def body(self) -> Pyramid:
        """The backbone with its norms or levels, which gives a pyramid of maps."""
        return self.neck.body

    @property
    def body_name(self) -> str:
        """Prefix of the backbone's parameter names."""
        return f"{self.neck_name}.body."

    @property
    def first_conv(self) -> str:
        """Name of the first convolution."""
        inner = self.body.first_conv if isinstance(self.body, CNNPyramid) else "stages.0.embed.conv"
        return self.body_name + inner

    def no_weight_decay(self) -> set[str]:
        """Parameters that optimizers should not decay beyond the one-dimensional ones: positions and prefix tokens."""
        if isinstance(self.body, CNNPyramid):
            return cnn_without_decay(self.body.cnn, f"{self.body_name}cnn.")
        return without_decay(self)

    def group_matcher(self, coarse: bool = False) -> Patterns:
        """Parameter names to layers, for layer-wise learning rates; all that is not the backbone is one layer."""
        if isinstance(self.body, CNNPyramid):
            return cnn_layer_patterns(self.body.cnn, f"{self.body_name}cnn.", coarse)
        return layer_patterns(re.escape(self.body_name), coarse)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the backbone's activations in the backward pass: less memory, more time."""
        self.body.set_grad_checkpointing(enable)


class Detector(DenseModel):
    """Images (C, H, W) of any sizes, in [0, 1], to the objects in them.

    The model resizes and normalizes the images. ``net`` is torchvision's network, where classes begin at
    ``first_label``: 1 in Mask R-CNN, whose label 0 is background.
    """

    neck_name = "net.backbone"

    def __init__(
        self, net: nn.Module, spec: DenseSpec, *, name: str, preprocessing: Preprocessing, first_label: int
    ) -> None:
        super().__init__(spec, name=name, preprocessing=preprocessing)
        self.net, self.first_label = net, first_label
        heads = {
            "retinanet": ("net.head.classification_head.cls_logits",),
            "mask_rcnn": (
                "net.roi_heads.box_predictor.cls_score",
                "net.roi_heads.box_predictor.bbox_pred",
                "net.roi_heads.mask_predictor.mask_fcn_logits",
            ),
        }
        self.last_layers = heads[spec.system]

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Objects] | None = None
    ) -> dict[str, Tensor] | list[Objects]:
        """Losses by name in training mode, otherwise the objects in each image, best first.

        Args:
            images: images (C, H, W), floating-point numbers in [0, 1].
            targets: for training, the objects in each image: ``boxes``, ``labels`` and, for Mask R-CNN, ``masks``.

        Returns:
            A mapping of scalars; in evaluation a list of mappings with ``boxes`` (G, 4) in pixels of the image,
            ``labels`` (G,), ``scores`` (G,) and, from Mask R-CNN, ``masks`` (G, H, W) as probabilities.

        Raises:
            InputError: no images, images with other channels, or targets that do not match them.
        """
        self._check(images, targets)
        if not self.training:
            found: list[Objects] = self.net(list(images))
            return [{**one, "labels": one["labels"] - self.first_label} for one in found]
        losses: dict[str, Tensor] = self.net(list(images), [self._for_net(target) for target in targets or ()])
        return losses

    def forward_dense(self, images: Tensor) -> Any:
        """The part that is computed at every place of (B, C, H, W): backbone, pyramid, dense heads.

        Mask R-CNN's heads on single regions are left out; their cost depends on the number of regions.
        """
        maps = list(self.neck(images).values())
        head = self.net.get_submodule("rpn.head" if self.spec.finds_masks else "head")
        return head(maps)

    def _for_net(self, target: Objects) -> dict[str, Tensor]:
        kept = ("boxes", "labels", "masks") if self.spec.finds_masks else ("boxes", "labels")
        return {**{key: target[key] for key in kept}, "labels": target["labels"] + self.first_label}

    def _check(self, images: Sequence[Tensor], targets: Sequence[Objects] | None) -> None:
        if isinstance(images, Tensor) and images.ndim != 4:
            raise InputError(f"images: expected a list of (C, H, W), got one tensor of shape {tuple(images.shape)}")
        if not len(images):
            raise InputError("images: expected at least one image, got none")
        for image in images:
            if image.ndim != 3 or image.shape[0] != self.spec.in_chans:
                wanted = f"({self.spec.in_chans}, height, width)"
                raise InputError(f"images: expected a list of {wanted}, got one of {tuple(image.shape)}")
            check_images(image[None], self.spec.in_chans)
        if not self.training:
            return
        if targets is None:
            raise InputError("targets: expected the objects of each image in training mode; model.eval() needs none")
        if len(targets) != len(images):
            raise InputError(f"targets: expected one for each of {len(images)} images, got {len(targets)}")
        for i, (image, target) in enumerate(zip(images, targets, strict=True)):
            self._check_target(target, tuple(image.shape[1:]), f"targets[{i}]")

    def _check_target(self, target: Objects, size: tuple[int, ...], path: str) -> None:
        wanted = ("boxes", "labels", "masks") if self.spec.finds_masks else ("boxes", "labels")
        for key in wanted:
            if key not in target:
                raise InputError(f"{path}: expected {', '.join(wanted)}, got {', '.join(target) or 'no keys'}")
        boxes, labels = target["boxes"], target["labels"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) != len(labels):
            raise InputError(
                f"{path}: expected boxes (G, 4) and labels (G,), got {tuple(boxes.shape)} and {tuple(labels.shape)}"
            )
        if not bool((boxes[:, 2:] > boxes[:, :2]).all()):
            raise InputError(f"{path}.boxes: expected left < right and top < bottom, got a box without area")
        if self.spec.finds_masks and tuple(target["masks"].shape) != (len(boxes), *size):
            raise InputError(
                f"{path}.masks: expected {(len(boxes), *size)}, one of the image's size for each box, got "
                f"{tuple(target['masks'].shape)}"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise InputError(
                f"{path}.labels: expected 0 to {self.num_classes - 1}, got {int(labels.min())} to {int(labels.max())}"
            )


class Segmenter(DenseModel):
    """Images (B, C, H, W), normalized as ``preprocessing`` says, to scores (B, K, H, W)."""

    neck_name = "backbone"
    last_layers = ("head.classify",)

    def __init__(
        self, backbone: PyramidNetwork, head: SemanticHead, spec: DenseSpec, *, name: str, preprocessing: Preprocessing
    ) -> None:
        super().__init__(spec, name=name, preprocessing=preprocessing)
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, H, W)."""
        check_images(images, self.spec.in_chans)
        if self.spec.square and tuple(images.shape[2:]) != self.spec.img_size:
            raise InputError(
                f"images: expected {self.spec.short_side} × {self.spec.short_side} pixels, for which this square model "
                f"was built, got {images.shape[2]} × {images.shape[3]}"
            )
        scores = self.head(list(self.backbone(images).values()))
        return resize_map(scores, images.shape[2:])
