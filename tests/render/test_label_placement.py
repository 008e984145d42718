"""A label gets the first offset where it is inside the frame and overlaps no other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metaformer.render.label_placement import Box, free_place

FRAME = Box(0, 0, 100, 100)
OFFSETS = ((5, 0), (-5, 0), (0, 8), (0, -8))


def test_a_label_starts_right_of_its_point_ends_left_of_it_or_is_centered() -> None:
    boxes = [free_place((50, 50), (20, 10), [offset], FRAME, []) for offset in OFFSETS]
    assert [box and box[2] for box in boxes] == [
        Box(55, 45, 75, 55), Box(25, 45, 45, 55), Box(40, 53, 60, 63), Box(40, 37, 60, 47)
    ]  # fmt: skip


def test_the_first_free_offset_is_taken() -> None:
    assert free_place((50, 50), (20, 10), OFFSETS, FRAME, [Box(60, 40, 70, 60)]) == (-5, 0, Box(25, 45, 45, 55))
    assert free_place((95, 50), (20, 10), OFFSETS[:1], FRAME, []) is None


_places = st.tuples(st.floats(0, 100), st.floats(0, 100))


@given(st.lists(_places, max_size=12))
def test_labels_never_overlap_nor_leave_the_frame(points: list[tuple[float, float]]) -> None:
    placed: list[Box] = []
    for point in points:
        found = free_place(point, (18, 9), OFFSETS, FRAME, placed)
        if found:
            assert FRAME.contains(found[2])
            assert not any(found[2].overlaps(other) or other.overlaps(found[2]) for other in placed)
            placed.append(found[2])
