"""A sweep's numbers as people read them, in pages, tables and sentences alike."""

from __future__ import annotations

from collections.abc import Sequence

from ...metrics import MetricDef
from ...render.numbers import DASH
from .statistics import Difference, RankCorrelation, Summary

MINUS = "−"


def factor(metric: MetricDef) -> float:
    """What a metric is multiplied by in tables and figures: shares are in percent."""
    return 100.0 if metric.unit == "share" else 1.0


def digits_of(metric: MetricDef, rough: bool = False) -> int:
    """Digits after the point of a value and of a difference; ``rough``: of a published number, or in a figure."""
    return 3 if metric.unit != "share" else 1 if rough else 2


def unit(metric: MetricDef) -> str:
    """What follows a value: `` %`` for shares."""
    return " %" if metric.unit == "share" else ""


def heading(metric: MetricDef) -> str:
    """``top-1 (%)``, ``loss``."""
    return f"{metric.label} (%)" if metric.unit == "share" else metric.label


def column(metric: MetricDef) -> str:
    """The metric's column in files: ``top1_percent``, ``loss``."""
    return f"{metric.name}_percent" if metric.unit == "share" else metric.name


def points(value: float | None, digits: int = 2) -> str:
    """A difference with its sign: ``+0.31``, ``−2.94``; what rounds to zero has none."""
    if value is None:
        return DASH
    text = f"{abs(value):.{digits}f}"
    # Python would print −0.001 as "-0.00", a sign without a difference.
    return text if float(text) == 0 else f"{MINUS if value < 0 else '+'}{text}"


def mean_text(summary: Summary, digits: int = 2) -> str:
    """``97.22 ± 0.31``, without a deviation if there is one seed."""
    if summary.mean is None:
        return DASH
    mean = f"{summary.mean:.{digits}f}"
    return mean if summary.deviation is None else f"{mean} ± {summary.deviation:.{digits}f}"


def interval(difference: Difference | None, digits: int = 2) -> str:
    """``−1.21 to +0.09``, or an empty string if there is no interval."""
    if difference is None or difference.interval is None:
        return ""
    low, high = difference.interval
    return f"{points(low, digits)} to {points(high, digits)}"


def probability(p: float | None) -> str:
    """A p value with two significant digits: ``0.012``, ``< 0.001``."""
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
    """A correlation: two digits, with a minus sign and not a hyphen."""
    return f"{value:.2f}".replace("-", MINUS)


def share(value: float | None) -> str:
    """A share, which may be negative, as a percentage with one digit."""
    return DASH if value is None else f"{100 * value:.1f} %".replace("-", MINUS)


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def plural(number: int, word: str, words: str | None = None) -> str:
    """``1 run``, ``3 runs``."""
    return f"{number} {word if number == 1 else words or word + 's'}"
