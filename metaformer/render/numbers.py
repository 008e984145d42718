"""Numbers formatted for people: shares, counts, durations. A missing value becomes a dash."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from os.path import commonprefix
from typing import TypeGuard

from ..metrics import MetricDef

DASH = "–"


def known(value: object) -> TypeGuard[int | float]:
    """Whether ``value`` is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def percent(share: object, digits: int = 2) -> str:
    """A share in [0, 1] as ``97.22 %``."""
    return f"{100 * share:.{digits}f} %" if known(share) else DASH


def count(value: object) -> str:
    """A whole number with a thousands separator: ``1,797``."""
    return f"{value:,.0f}" if known(value) else DASH


def short(value: object) -> str:
    """A large number with its unit: ``11.92 M``, ``1.82 G``."""
    if not known(value):
        return DASH
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * size:  # rounds up to the unit: 999,600 is 1.00 M and not 1000 k
            scaled = value / size
            return f"{scaled:.{2 if abs(scaled) < 99.95 else 0}f} {unit}"
    return f"{value:g}"


def compact(value: float) -> str:
    """A tick's label: ``0.0005``, ``1e-5``, ``30 M``."""
    if abs(value) >= 1000:
        text = short(value)
        return re.sub(r"\.?0+ ", " ", text) if "." in text else text
    return f"{value:g}".replace("e-0", "e-")  # Python writes at least two digits of an exponent


def number(value: object) -> str:
    """A loss or a rate with four significant digits."""
    return f"{value:.4g}".replace("e-0", "e-") if known(value) else DASH


def metric_text(metric: MetricDef, value: object, digits: int = 2) -> str:
    """A metric's value by its unit: shares in percent."""
    if metric.unit == "share":
        return percent(value, digits)
    # a mean of counts, such as an error of 0.12, is no whole number
    whole = metric.unit == "count" and known(value) and float(value).is_integer()
    return count(value) if whole else number(value)


def duration(seconds: object) -> str:
    """``8.4 s``, ``3 min 12 s``, ``2 h 05 min``."""
    if not known(seconds):
        return DASH
    if seconds < 9.95:  # above, one decimal would round to 10.0
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def capital(word: str) -> str:
    """The word with a capital first letter, unless it has a spelling of its own (``mIoU``)."""
    return f"{word[:1].upper()}{word[1:]}" if word.islower() or "-" in word or " " in word else word


def shorten(text: object, width: int) -> str:
    """At most ``width`` characters on one line, with an ellipsis in the middle."""
    line = " ".join(str(text).split())
    if len(line) <= width:
        return line
    tail = (width - 1) // 3  # similar names differ at their ends, more often at the start
    return f"{line[: width - 1 - tail]}…{line[len(line) - tail :]}"


def shorten_all(names: Sequence[str], width: int) -> list[str]:
    """Each name at most ``width`` characters; where that makes some equal, the common start and end are removed."""
    short = [shorten(name, width) for name in names]
    if len(set(short)) == len(set(names)):
        return short
    head = len(commonprefix(list(names)))  # noqa: RUF071 of letters, not of folders
    tail = len(commonprefix([name[head:][::-1] for name in names]))  # noqa: RUF071 likewise
    # an ellipsis in place of a single letter would save nothing
    before, after = "…" if head > 1 else "", "…" if tail > 1 else ""
    return [shorten(f"{before}{name[head : len(name) - tail]}{after}", width) for name in names]


def plain(value: object) -> str:
    """A setting as a string: lists with commas, a dash for None, yes and no."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value) or DASH
    if isinstance(value, dict):
        return ", ".join(f"{key}={plain(item)}" for key, item in value.items()) or DASH
    return f"{value:g}" if isinstance(value, float) else str(value)
