"""Numbers read well, names fit where they are written."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaformer.metrics import MetricDef
from metaformer.render.numbers import (
    DASH,
    capital,
    compact,
    count,
    duration,
    metric_text,
    number,
    percent,
    plain,
    short,
    shorten,
    shorten_all,
)

FORMATS = (percent, count, short, number, duration)


@pytest.mark.parametrize(
    ("format_", "values"),
    [
        (percent, {0.97222: "97.22 %", 1: "100.00 %", 0: "0.00 %"}),
        (short, {11_915_176: "11.92 M", 1_823e6: "1.82 G", 999_960: "1.00 M", 12: "12", 5_100: "5.10 k"}),
        (duration, {0.51: "0.5 s", 9.97: "10 s", 42.4: "42 s", 192: "3 min 12 s", 3599.7: "1 h 00 min"}),
        (compact, {30e6: "30 M", 1e-5: "1e-5", 0.5: "0.5", 12_500: "12.5 k", 1000: "1 k"}),
        (count, {1797: "1,797", 0: "0", 512.4: "512"}),
        (number, {0.432149: "0.4321", 1.5e-7: "1.5e-7", 2: "2"}),
        (capital, {"mIoU": "mIoU", "top-1": "Top-1", "box AP50": "Box AP50", "loss": "Loss", "": ""}),
        (plain, {None: DASH, True: "yes", False: "no", "": DASH, 0.5: "0.5", "x": "x", (1, 2): "1, 2", (): DASH}),
    ],
)  # fmt: skip
def test_values_are_written_as_people_read_them(format_: object, values: dict[object, str]) -> None:
    assert {value: format_(value) for value in values} == values  # type: ignore[operator]


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, "text", True])
def test_what_is_no_number_becomes_a_dash(missing: object) -> None:
    assert {format_(missing) for format_ in FORMATS} == {DASH}


def test_a_metric_is_written_by_its_unit() -> None:
    units = {"share": "12.50 %", "nats": "0.125", "count": "0.125"}
    for unit, text in units.items():
        assert metric_text(MetricDef(name="m", label="m", unit=unit), 0.125) == text  # type: ignore[arg-type]
    assert metric_text(MetricDef(name="m", label="m"), 0.125, 0) == "12 %"
    assert metric_text(MetricDef(name="m", label="m", unit="count"), 1234.0) == "1,234"
    assert metric_text(MetricDef(name="m", label="m"), math.nan) == DASH


@given(st.floats(0, 1e15))
def test_every_number_has_a_short_form(value: float) -> None:
    for format_ in (count, short, number, duration):
        assert re.search(r"\d", format_(value))
    assert len(short(value)) <= 12


@settings(max_examples=40)
@given(st.lists(st.text(max_size=30), max_size=4, unique=True), st.integers(4, 20))
def test_shortened_names_fit(names: list[str], width: int) -> None:
    assert all(len(shorten(name, width)) <= width for name in names)
    assert all(len(name) <= width for name in shorten_all(names, width))


def test_names_that_differ_only_in_the_middle_stay_apart() -> None:
    names = [f"a long shared beginning {i} a long shared end" for i in range(20)]
    assert len(set(shorten_all(names, 12))) == 20
