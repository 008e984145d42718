"""Boxes, masks and label maps move with their image; a segmenter's images have aligned sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_images import noise
from torch import Tensor

from metaformer.data.dataset import Sample
from metaformer.data.transforms import paired as geometry
from metaformer.data.transforms.image import to_bytes
from metaformer.recipe import Augmentation, Dense
from metaformer.types import Objects, Preprocessing


def sizes(**changes: Any) -> Any:
    return SimpleNamespace(**{"system": "semantic_fpn", "short_side": 64, "long_side": 128, "square": False, **changes})


def scene() -> tuple[Tensor, Objects]:
    """A black image of 40 × 30 with a red and a green rectangle, each an object with its mask."""
    pixels = torch.zeros(3, 30, 40, dtype=torch.uint8)
    boxes = [[4, 6, 14, 26], [20, 2, 36, 12]]
    masks = torch.zeros(2, 30, 40, dtype=torch.uint8)
    for layer, (left, top, right, bottom) in enumerate(boxes):
        masks[layer, top:bottom, left:right] = 1
        pixels[layer, top:bottom, left:right] = 255
    labels = torch.tensor([5, 7])
    return pixels, {"boxes": torch.tensor(boxes).float(), "labels": labels, "masks": masks, "image_id": torch.tensor(9)}


def color_under(pixels: Tensor, label: int) -> Tensor:
    return pixels[{5: 0, 7: 1}[label]]


def test_a_flip_moves_boxes_and_masks() -> None:
    pixels, objects = scene()
    mirrored, moved = geometry.flip(pixels, objects)
    assert moved["boxes"].tolist() == [[26, 6, 36, 26], [4, 2, 20, 12]]
    assert torch.equal(mirrored[:2] > 0, moved["masks"].bool())
    back, again = geometry.flip(mirrored, moved)
    assert torch.equal(back, pixels)
    assert all(torch.equal(again[name], objects[name]) for name in objects)
    assert all(type(value) is Tensor for value in moved.values())


@pytest.mark.parametrize("factor", [0.5, 0.73, 1.0, 1.4, 2.0])
def test_a_zoom_keeps_the_canvas_and_moves_boxes_and_masks(factor: float) -> None:
    pixels, objects = scene()
    seen = 0
    for seed in range(20):
        torch.manual_seed(seed)
        zoomed, moved = geometry.zoom(pixels, objects, factor, (0.0, 0.0, 0.0))
        assert zoomed.shape == pixels.shape
        assert moved["masks"].shape[1:] == pixels.shape[1:]
        assert int(moved["image_id"]) == 9
        assert len(moved["labels"]) == len(moved["boxes"]) == len(moved["masks"])
        for label, box, mask in zip(moved["labels"].tolist(), moved["boxes"], moved["masks"], strict=True):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            around = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert (around - box).abs().max() <= 1, "a box is around its mask"
            assert (box >= 0).all()
            assert (box <= torch.tensor([40, 30, 40, 30])).all()
            assert ((color_under(zoomed, label) > 127) == mask.bool()).float().mean() > 0.97
            seen += 1
    assert seen >= 20


def test_objects_outside_of_a_zoom_are_dropped() -> None:
    pixels, objects = scene()
    kept = set()
    for seed in range(40):
        torch.manual_seed(seed)
        _, moved = geometry.zoom(pixels, objects, 4.0, (0.0, 0.0, 0.0))
        kept.add(tuple(moved["labels"].tolist()))
        assert ((moved["boxes"][:, 2:] - moved["boxes"][:, :2]) >= 1).all()
    assert {(), (5,), (7,)} <= kept


def test_a_smaller_image_is_padded_with_the_given_color() -> None:
    pixels, objects = scene()
    zoomed, _ = geometry.zoom(pixels + 9, objects, 0.5, (0.2, 0.4, 0.6))
    around = (zoomed == torch.tensor([51, 102, 153], dtype=torch.uint8).view(3, 1, 1)).all(0)
    assert int(around.sum()) == 30 * 40 - 15 * 20


def test_augmentation_without_an_object() -> None:
    objects: Objects = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 12, 10, dtype=torch.uint8),
        "image_id": torch.tensor(0),
    }
    for factor in (0.5, 2.0):
        vary = geometry.ObjectTrainTransform(Augmentation(hflip=1.0), Dense(scale=(factor, factor)), Preprocessing())
        image, moved = vary(Sample(noise(1), objects))
        assert (image.shape, image.dtype) == ((3, 12, 10), torch.float32)
        assert [tuple(moved[name].shape) for name in ("boxes", "labels", "masks")] == [(0, 4), (0,), (0, 12, 10)]


def test_an_image_without_augmentation_is_unchanged() -> None:
    pixels, objects = scene()
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    vary = geometry.ObjectTrainTransform(Augmentation(hflip=0.0), Dense(), Preprocessing())
    for seen, same in (vary(Sample(image, objects)), geometry.ObjectEvalTransform()(Sample(image, objects))):
        assert torch.equal(seen, pixels / 255)
        assert all(torch.equal(same[name], objects[name]) for name in objects)


@pytest.mark.parametrize(
    ("height", "width", "changes", "expected"),
    [
        (100, 150, {}, (64, 96)),
        (100, 300, {}, (43, 128)),  # the long side decides
        (300, 100, {}, (128, 43)),
        (20, 20, {}, (64, 64)),
        (100, 300, {"square": True}, (64, 64)),
    ],
)
def test_the_size_is_within_both_limits(
    height: int, width: int, changes: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert geometry.resized_size(height, width, sizes(**changes)) == expected


def test_the_papers_evaluation_size() -> None:
    assert geometry.resized_size(512, 683, sizes(short_side=512, long_side=2048), 2.0) == (1024, 1366)
    assert geometry.aligned_size(512, 683, sizes(short_side=512, long_side=2048)) == (512, 704)
    assert geometry.aligned_size(300, 100, sizes()) == (128, 64)


def test_an_image_for_a_segmenter_is_aligned_and_normalized() -> None:
    image = Image.new("RGB", (90, 60), (124, 116, 104))
    pixels = geometry.segmenter_input(image, sizes(), Preprocessing())
    assert (pixels.shape, pixels.dtype) == ((3, 64, 96), torch.float32)
    assert pixels.abs().max() < 0.01, "the mean's color becomes 0"
    square = geometry.segmenter_input(image, sizes(square=True), Preprocessing())
    assert square.shape == (3, 64, 64)


def painted(label_map: Tensor) -> Image.Image:
    """An image whose red says the label."""
    red = (label_map.clamp(max=5) * 50).to(torch.uint8)
    return Image.fromarray(torch.stack([red, red, red], -1).numpy())


def test_labels_move_with_their_pixels() -> None:
    blocks = torch.arange(4).repeat_interleave(12).repeat(36, 1)  # four upright stripes
    blocks[30:] = 4
    plain = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    vary = geometry.LabelMapTrainTransform(
        sizes(short_side=36, long_side=200), Augmentation(), Dense(scale=(0.5, 2.0), crop=32), plain
    )
    sizes_seen, first = set(), set()
    for seed in range(24):
        torch.manual_seed(seed)
        image, labels = vary(Sample(painted(blocks), blocks))
        assert (image.shape, labels.shape, labels.dtype) == ((3, 32, 32), (32, 32), torch.int64)
        known = labels != 255
        agree = (image[0] * 255 / 50 - labels).abs() < 0.5
        assert agree[known].float().mean() > 0.9
        assert (image[:, ~known] == 0).all()
        sizes_seen.add(int(known.sum()))
        first.add(int(labels[0, 0]))
    assert len(sizes_seen) > 3
    assert min(sizes_seen) < 32 * 32
    assert {0, 3} <= first, "some are flipped"


def test_a_crop_with_too_much_of_one_class_is_drawn_again() -> None:
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    labels[:, 56:] = 1
    labels[:8] = 255

    def largest(share: float) -> list[float]:
        shares = []
        for seed in range(60):
            torch.manual_seed(seed)
            top, left = geometry.crop_corner(labels, 16, share)
            cut = labels[top : top + 16, left : left + 16]
            counts = torch.bincount(cut[cut != 255].flatten(), minlength=2)
            shares.append(float(counts.max() / counts.sum()))
        return shares

    free, bound = largest(1.0), largest(0.75)
    assert sum(share > 0.75 for share in free) > 40
    assert sum(share > 0.75 for share in bound) < 25
    labels[:] = 3
    assert len(geometry.crop_corner(labels, 16, 0.75)) == 2, "where there is no other crop, one with too much is taken"


def test_colors_vary_with_the_seed() -> None:
    pixels = to_bytes(noise(3, 24, 24))
    seen = set()
    for seed in range(16):
        torch.manual_seed(seed)
        varied = geometry.vary_colors(pixels)
        torch.manual_seed(seed)
        assert torch.equal(varied, geometry.vary_colors(pixels))
        assert (varied.dtype, varied.shape) == (torch.uint8, pixels.shape)
        seen.add(round(float(varied.float().mean()), 3))
    assert len(seen) > 10
