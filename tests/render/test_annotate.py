"""Laws of drawing: a class has one color everywhere, what was found alone is painted, names lie on no other name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from metaformer.render.annotate import (
    COLORS,
    class_color,
    colored,
    draw_detections,
    draw_label_map,
    hexadecimal,
    shrunk,
    text_color,
    with_legend,
)

GRAY = Image.new("RGB", (120, 90), (128, 128, 128))


def changed(image: Image.Image) -> np.ndarray:
    return (np.asarray(image) != np.asarray(GRAY)).any(axis=2)


def test_colors_of_classes_all_differ_clearly() -> None:
    colors = np.array([class_color(label) for label in range(150)], dtype=float)
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=2)[~np.eye(150, dtype=bool)]
    assert apart.min() > 15
    assert class_color(3) == class_color(3 + COLORS)
    assert hexadecimal((0, 114, 178)) == "#0072b2"


def test_names_are_black_on_light_plates_and_white_on_dark_ones() -> None:
    assert text_color((250, 240, 120)) == (0, 0, 0)
    assert text_color((20, 20, 120)) == (255, 255, 255)


def test_a_box_is_drawn_where_it_is_in_the_color_of_its_class() -> None:
    boxes = np.array([[40.0, 30.0, 80.0, 70.0]])
    drawn = np.asarray(draw_detections(GRAY, boxes, [2], ["a", "b", ""]))
    for corner in ((30, 40), (30, 79), (69, 40), (69, 79)):
        assert tuple(drawn[corner]) == class_color(2)
    assert (drawn[31:69, 41:79][20:] == 128).all()


def test_a_mask_colors_its_pixels_and_its_edge() -> None:
    mask = np.zeros((90, 120), dtype=np.uint8)
    mask[20:60, 30:100] = 1
    drawn = draw_detections(GRAY, np.zeros((1, 4)), [1], ["", ""], masks=mask[None])
    inside = changed(drawn)
    inside[:20, :30] = False  # the plate of the name, at the empty box
    assert (inside == mask.astype(bool)).all()
    pixels = np.asarray(drawn)
    assert tuple(pixels[20, 50]) == class_color(1)
    assert tuple(pixels[40, 50]) not in (class_color(1), (128, 128, 128))


def test_names_never_lie_on_one_another() -> None:
    """Ten objects at one place: what has no room for its name has none."""
    boxes = np.tile([[10.0, 30.0, 110.0, 60.0]], (10, 1))
    ten = np.asarray(draw_detections(GRAY, boxes, list(range(10)), [f"name {i}" for i in range(10)]))
    best = np.asarray(draw_detections(GRAY, boxes[:1], [0], ["name 0"]))
    plate = (best == class_color(0)).all(axis=2)
    plate[30:60] = False
    assert plate.sum() > 50
    assert (ten[:30][plate[:30]] == class_color(0)).all()


@pytest.mark.parametrize("box", [[-5.0, -5.0, 200.0, 200.0], [0.0, 0.0, 0.0, 0.0], [119.0, 89.0, 120.0, 90.0]])
def test_boxes_at_the_edge_and_without_area_are_drawn(box: list[float]) -> None:
    drawn = draw_detections(GRAY, np.array([box]), [0], ["a name longer than the whole image is wide, really"])
    assert drawn.size == GRAY.size


def test_no_objects_leave_the_image_as_it_is() -> None:
    empty = draw_detections(GRAY, np.zeros((0, 4)), [], ["a"], masks=np.zeros((0, 90, 120), dtype=np.uint8))
    assert not changed(empty).any()


def test_a_label_map_is_laid_over_all_but_the_ignored() -> None:
    labels = np.zeros((90, 120), dtype=np.int64)
    labels[:, 60:] = 7
    labels[80:] = 255
    drawn = draw_label_map(GRAY, labels)
    assert (changed(drawn) == (labels != 255)).all()
    assert tuple(np.asarray(drawn)[10, 60]) == class_color(7)  # the line between two classes
    flat = colored(labels)
    assert tuple(flat[0, 0]) == class_color(0)
    assert tuple(flat[0, 100]) == class_color(7)
    assert tuple(flat[85, 0]) == (0, 0, 0)


def test_a_legend_has_the_same_colors_and_cuts_long_names() -> None:
    drawn = with_legend(GRAY, [0, 2], ["wall", "never", "a name that is far too long for one line " * 3])
    assert drawn.width == GRAY.width
    below = {tuple(color) for color in np.asarray(drawn)[90:].reshape(-1, 3)}
    assert class_color(0) in below
    assert class_color(2) in below
    assert class_color(1) not in below
    assert with_legend(GRAY, [], []).size == GRAY.size


def test_only_large_images_are_made_smaller() -> None:
    assert shrunk(GRAY, 60).size == (60, 45)
    assert shrunk(GRAY, 500).size == GRAY.size
    assert shrunk(Image.new("L", (1, 4000)), 100).size == (1, 100)
