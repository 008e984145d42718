"""A sweep's figures as people read them, in pages, tables and sentences alike."""

from __future__ import annotations

from collections.abc import Sequence

from ...render.numbers import DASH
from .results import SweepRow
from .statistics import Difference, RankCorrelation

MINUS = "−"


def points(value: float | None, digits: int = 2) -> str:
    """A difference with its sign: ``+0.31``, ``−2.94``; what rounds to nothing has none."""
    if value is None:
        return DASH
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{MINUS if value < 0 else '+'}{text}"


def accuracy(row: SweepRow) -> str:
    """``97.22 ± 0.31`` in percent, without a deviation where there is one seed."""
    mean, deviation = row.summary.mean, row.summary.deviation
    if mean is None:
        return DASH
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def interval(difference: Difference | None) -> str:
    """``−1.21 to +0.09``, or None."""
    if difference is None or difference.interval is None:
        return ""
    low, high = difference.interval
    return f"{points(low)} to {points(high)}"


def probability(p: float | None) -> str:
    """A p value with two digits that count: ``0.012``, ``< 0.001``."""
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def correlation(ranks: RankCorrelation) -> str:
    """``0.83 (95 % interval 0.60 to 0.93, 18 variants, p < 0.001)``."""
    within = "no interval"
    if ranks.interval is not None:
        within = f"95 % interval {signed(ranks.interval[0])} to {signed(ranks.interval[1])}"
    p = probability(ranks.p)
    return f"{signed(ranks.rho)} ({within}, {ranks.number} variants, p {p if p.startswith('<') else f'= {p}'})"


def signed(value: float) -> str:
    """A correlation: two digits, a real minus."""
    return f"{value:.2f}".replace("-", MINUS)


def share(value: float | None) -> str:
    """A share as a percentage with one digit, which may be negative."""
    return DASH if value is None else f"{100 * value:.1f} %".replace("-", MINUS)


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def plural(number: int, word: str, words: str | None = None) -> str:
    """``1 run``, ``3 runs``."""
    return f"{number} {word if number == 1 else words or word + 's'}"
