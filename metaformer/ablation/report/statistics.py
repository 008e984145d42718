"""Statistics over seeds: means, paired differences with intervals and tests, and rank correlation.

Numbers in, numbers out, in any unit. What cannot be computed (one seed, no spread) is None, never NaN.
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
_ALL_ORDERS_UP_TO = 8  # 8! = 40,320 orders are all tried; beyond that they are sampled
_SAMPLED_ORDERS = 99_999  # with the measured order itself 100,000, so that p is a multiple of 1e-5


@dataclass(frozen=True)
class Summary:
    """Values of one variant over its seeds."""

    number: int
    mean: float | None
    """None without values."""
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

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant after the correction."""
        return self.p_holm is not None and self.p_holm < SIGNIFICANCE

    @property
    def is_significant_alone(self) -> bool:
        """Whether it would be significant if no other variant had been tested."""
        return self.p is not None and self.p < SIGNIFICANCE


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
    # Equal values may differ from their mean by a rounding error, which is no spread.
    return 0.0 if isclose(max(values), min(values), rel_tol=1e-12, abs_tol=1e-9) else deviation


def paired(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """The difference over the seeds that both have, or None if they share none; ``holm`` adds ``p_holm``.

    A difference that is the same on every seed has no spread, so it gets no interval and no test.
    """
    differences = [values[seed] - base[seed] for seed in values if seed in base]
    if not differences:
        return None
    number, mean = len(differences), fsum(differences) / len(differences)
    deviation = _deviation(differences) if number > 1 else 0.0
    if deviation == 0:
        return Difference(number, mean)
    error = deviation / sqrt(number)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, number - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, number - 1))
    return Difference(number, mean, (mean - half, mean + half), p)


def holm(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """The same differences with p values corrected by Holm's method over all that have one."""
    tested = sorted((d.p, name) for name, d in differences.items() if d.p is not None)
    corrected, highest = dict(differences), 0.0
    for rank, (p, name) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))  # a larger p never gets a smaller correction
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
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * sqrt((1 + rho**2 / 2) / (number - 3))
    center = np.arctanh(rho)
    return float(np.tanh(center - half)), float(np.tanh(center + half))


def _permutation_p(a: NDArray[np.float64], b: NDArray[np.float64], rho: float) -> float:
    """The share of orders that agree at least as well; if orders are sampled, the measured one is counted too."""
    least = abs(rho) - 1e-12  # orders that agree equally well must count, whatever their sums round to
    if len(a) <= _ALL_ORDERS_UP_TO:
        orders = np.array(list(permutations(b)))
        return float(np.mean(np.abs(orders @ a) >= least))
    orders = np.random.default_rng(0).permuted(np.tile(b, (_SAMPLED_ORDERS, 1)), axis=1)
    return float((np.sum(np.abs(orders @ a) >= least) + 1) / (_SAMPLED_ORDERS + 1))
