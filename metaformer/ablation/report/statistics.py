"""What the seeds say: means, paired differences with intervals and tests, and rank correlation with print.

Numbers in, numbers out; any unit. What cannot be computed (one seed, no spread) is None, never NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import fsum, isclose, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
_ALL_ORDERS_UP_TO = 8  # 8! = 40,320 orders are tried one by one, more are sampled
_SAMPLED_ORDERS = 99_999


@dataclass(frozen=True)
class Summary:
    """Values of one variant over its seeds."""

    number: int
    mean: float | None
    """Nothing without values."""
    deviation: float | None
    """Standard deviation with n − 1; None below two values."""


@dataclass(frozen=True)
class Difference:
    """A variant minus the base, seed by seed."""

    pairs: int
    """Seeds that both have."""
    mean: float
    interval: tuple[float, float] | None = None
    """95 % interval of the mean difference by Student's t; None below two pairs or without spread."""
    p: float | None = None
    """Two-sided paired t-test; None likewise."""
    p_holm: float | None = None
    """The same after Holm's correction over all variants that were tested."""


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation of two lists."""

    rho: float
    number: int
    """Pairs."""
    interval: tuple[float, float] | None
    """95 % interval; None below four pairs and at ±1, where Fisher's transformation has none."""
    p: float
    """Two-sided permutation test: exact for up to eight pairs, sampled with a fixed seed beyond."""


def summary(values: Sequence[float]) -> Summary:
    """Mean and standard deviation. Sums are exact, so equal values in any order give equal means."""
    if not values:
        return Summary(0, None, None)
    mean = fsum(values) / len(values)
    return Summary(len(values), mean, _deviation(values) if len(values) > 1 else None)


def _deviation(values: Sequence[float]) -> float:
    mean = fsum(values) / len(values)
    deviation = sqrt(fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    # Equal values may miss their mean by a rounding; that is no spread.
    return 0.0 if isclose(max(values), min(values), rel_tol=1e-12, abs_tol=1e-9) else deviation


def paired(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """The difference over the seeds that both have, or None where there is none; ``p_holm`` is left to ``holm``.

    A difference that is the same on every seed has no spread to hold it against: it gets no interval and no test.
    """
    differences = [values[seed] - base[seed] for seed in values if seed in base]
    if not differences:
        return None
    number, mean = len(differences), fsum(differences) / len(differences)
    deviation = _deviation(differences) if number > 1 else 0.0
    if deviation == 0:
        return Difference(number, mean)
    error = deviation / sqrt(number)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, number - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, number - 1))
    return Difference(number, mean, (mean - reach, mean + reach), p)


def holm(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """The same differences with p values corrected by Holm's method over all that have one."""
    tested = sorted((d.p, name) for name, d in differences.items() if d.p is not None)
    corrected, highest = dict(differences), 0.0
    for rank, (p, name) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        corrected[name] = replace(differences[name], p_holm=highest)
    return corrected


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> RankCorrelation | None:
    """Spearman's correlation with ties averaged; None below three pairs or where a list is constant.

    The interval is Fisher's with the standard error sqrt((1 + r²/2) / (n − 3)) of Bonett and Wright (2000).
    """
    number = len(first)
    if number < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    a, b = _standard_ranks(first), _standard_ranks(second)
    rho = float(np.clip(a @ b, -1.0, 1.0))
    return RankCorrelation(rho, number, _fisher_interval(rho, number), _permutation_p(a, b, rho))


def _standard_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks with mean 0 and length 1, so that a product of two is their correlation."""
    ranks = np.asarray(stats.rankdata(values), dtype=float)
    ranks -= ranks.mean()
    return np.asarray(ranks / np.sqrt((ranks**2).sum()))


def _fisher_interval(rho: float, number: int) -> tuple[float, float] | None:
    if number < 4 or isclose(abs(rho), 1.0, abs_tol=1e-12):
        return None
    reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * sqrt((1 + rho**2 / 2) / (number - 3))
    center = np.arctanh(rho)
    return float(np.tanh(center - reach)), float(np.tanh(center + reach))


def _permutation_p(a: NDArray[np.float64], b: NDArray[np.float64], rho: float) -> float:
    """The share of orders that agree at least as well; a sampled one counts the order found among them."""
    least = abs(rho) - 1e-12
    if len(a) <= _ALL_ORDERS_UP_TO:
        orders = np.array(list(permutations(b)))
        return float(np.mean(np.abs(orders @ a) >= least))
    orders = np.random.default_rng(0).permuted(np.tile(b, (_SAMPLED_ORDERS, 1)), axis=1)
    return float((np.sum(np.abs(orders @ a) >= least) + 1) / (_SAMPLED_ORDERS + 1))
