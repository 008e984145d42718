"""The statistics of a sweep agree with scipy's and with numbers computed by hand; no result is NaN."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from metaformer.ablation.report.statistics import Difference, holm, paired, rank_correlation, summary


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A division by zero would warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_a_deviation_is_over_n_minus_one() -> None:
    found = summary([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert (found.number, found.mean) == (8, 5.0)
    assert found.deviation == pytest.approx(np.sqrt(32 / 7))


def test_one_value_has_no_deviation_and_none_has_no_mean() -> None:
    assert summary([3.0]).deviation is None
    assert summary([]).mean is None


def test_equal_values_have_no_spread_and_their_mean_does_not_depend_on_the_order() -> None:
    assert summary([0.1, 0.1, 0.1]).deviation == 0
    values = [97.222222222, 0.1, 55.55555555, 10.0]
    assert summary(values).mean == summary(values[::-1]).mean


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_the_paired_test_is_students(seeds: int) -> None:
    draws = np.random.default_rng(seeds)
    base, changed = draws.normal(90, 1, seeds), draws.normal(91, 1, seeds)
    found = paired(dict(enumerate(changed)), dict(enumerate(base)))
    expected = stats.ttest_rel(changed, base)
    assert found is not None
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.mean == pytest.approx((changed - base).mean())


def test_a_paired_difference_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, standard error 1/√3, t = 3.464 with 2 degrees of freedom; 4.303 is the 97.5 %
    point of the tables."""
    found = paired({0: 11.0, 1: 12.0, 2: 13.0}, {0: 10.0, 1: 10.0, 2: 10.0})
    assert found is not None
    assert found.mean == 2.0
    assert found.interval == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)
    assert found.p == pytest.approx(0.0742, abs=1e-4)


def test_pairs_are_the_seeds_that_both_have() -> None:
    found = paired({1: 5.0, 2: 7.0, 9: 100.0}, {1: 4.0, 2: 5.0, 3: 0.0})
    assert found is not None
    assert (found.pairs, found.mean) == (2, 1.5)
    assert paired({1: 5.0}, {2: 5.0}) is None


@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_a_constant_difference_gets_no_test(gap: float) -> None:
    found = paired({s: 0.1 * s + gap for s in range(5)}, {s: 0.1 * s for s in range(5)})
    assert found is not None
    assert found.mean == pytest.approx(gap)
    assert (found.interval, found.p) == (None, None)


def test_one_seed_gets_no_test() -> None:
    assert paired({0: 3.0}, {0: 1.0}) == Difference(1, 2.0)


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, never falling: 0.04, 0.06, 0.06, 0.06."""
    given = {name: Difference(3, 1.0, (0.0, 1.0), p) for name, p in zip("dbca", (0.04, 0.02, 0.03, 0.01), strict=True)}
    found = holm(given | {"untested": Difference(1, 1.0)})
    values = {name: difference.p_holm for name, difference in found.items()}
    assert values.pop("untested") is None
    assert values == pytest.approx({"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.06})
    assert holm({"x": Difference(2, 1.0, (0.0, 1.0), 0.9), "y": Difference(2, 1.0, (0.0, 1.0), 0.8)})["x"].p_holm == 1


def test_the_rank_correlation_is_scipys_with_ties_averaged() -> None:
    first, second = [1.0, 2.0, 2.0, 4.0, 9.0, 7.0], [2.0, 1.0, 5.0, 5.0, 8.0, 9.0]
    found = rank_correlation(first, second)
    assert found is not None
    assert found.rho == pytest.approx(stats.spearmanr(first, second).statistic)


def test_the_interval_of_the_rank_correlation_by_hand() -> None:
    """Ranks 1 2 3 4 5 against 2 1 4 3 5: ρ = 1 − 6·4/(5·24) = 0.8; atanh 0.8 = 1.0986, standard error
    sqrt(1.32/2) = 0.8124, times 1.96: tanh(−0.4937), tanh(2.6909)."""
    found = rank_correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    assert found is not None
    assert found.rho == pytest.approx(0.8)
    assert found.interval == pytest.approx((-0.4571, 0.9909), abs=1e-4)


def test_the_permutation_test_is_exact_for_few_and_close_for_many() -> None:
    few = rank_correlation([1, 2, 3, 4], [1, 2, 3, 4])
    assert few is not None
    assert few.p == pytest.approx(2 / 24)
    draws = np.random.default_rng(1)
    first = draws.normal(size=19)
    second = first + 2 * draws.normal(size=19)
    many = rank_correlation(list(first), list(second))
    assert many is not None
    assert many.p == pytest.approx(stats.spearmanr(first, second).pvalue, abs=0.01)
    assert many == rank_correlation(list(first), list(second))


def test_what_has_no_rank_correlation_has_none() -> None:
    assert rank_correlation([1, 2], [1, 2]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
    exact = rank_correlation([1, 2, 3, 4, 5], [5, 4, 3, 2, 1])
    assert exact is not None
    assert (exact.rho, exact.interval) == (-1.0, None)
