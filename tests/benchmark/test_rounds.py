"""The arithmetic of rounds, on fabricated times: no test depends on a clock."""

import random
from collections.abc import Callable

import pytest

from metaformer.benchmark.memory import highest_sum
from metaformer.benchmark.rounds import Pace, PowerLaw, Spread, in_turns, ratio


def calls(names: str, called: list[str]) -> dict[str, Callable[[], object]]:
    return {name: lambda name=name: called.append(name) for name in names}


def test_every_call_has_a_turn_in_every_round_and_the_order_alternates() -> None:
    called: list[str] = []
    rounds = list(in_turns(calls("abc", called), Pace(rounds=3, warm_up=1, min_seconds=0.0, pause=0.0)))
    assert "".join(called) == "cba" + "abc" + "cba" + "abc"
    assert [list(turns) for turns in rounds] == [[], list("abc"), list("cba"), list("abc")]
    assert all(spent > 0 for turns in rounds for spent in turns.values())


def test_short_calls_are_repeated_in_a_turn_and_the_first_of_a_turn_is_not_counted() -> None:
    called: list[str] = []
    list(in_turns(calls("a", called), Pace(rounds=1, warm_up=1, min_seconds=10.0, pause=0.0)))
    assert len(called) == 1 + 1 + 100  # warm-up; then at most a hundred, after one that warms the cache


@pytest.mark.parametrize("warm_up", [0, 1])
def test_a_call_that_raises_is_reported_once_and_not_called_again(warm_up: int) -> None:
    called: list[str] = []

    def broken() -> None:
        called.append("broken")
        raise RuntimeError("no")

    rounds = list(
        in_turns({**calls("a", called), "b": broken}, Pace(rounds=2, warm_up=warm_up, min_seconds=0.0, pause=0.0))
    )
    assert called.count("broken") == 1
    assert isinstance(rounds[0]["b"], RuntimeError)
    assert all("b" not in turns for turns in rounds[1:])
    assert sum("a" in turns for turns in rounds) == 2


def test_ctrl_c_ends_the_rounds() -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_turns({"a": stopped}, Pace(rounds=1, pause=0.0)))


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians() -> None:
    baseline, times = [2.0, 4.0, 30.0], [1.0, 4.0, 10.0]
    assert ratio(baseline, times) == Spread(2.0, 1.5, 2.5)
    assert ratio(times, times) == Spread(1.0, 1.0, 1.0)
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="zip"):
        ratio(baseline, times[:2])


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_an_exact_power_law_is_found_without_error(exponent: float) -> None:
    tokens = [196, 400, 784, 1600, 4096]
    law = PowerLaw.fit(tokens, [3e-6 * count**exponent for count in tokens])
    assert law.exponent == pytest.approx(exponent)
    assert law.error == pytest.approx(0, abs=1e-9)


def test_the_standard_error_covers_the_true_exponent_as_often_as_it_should() -> None:
    """Two standard errors of a slope from six points cover it in about nine of ten samples (Student's t)."""
    draw = random.Random(0)
    tokens = [196, 400, 784, 1600, 2500, 4096]
    laws = [PowerLaw.fit(tokens, [count * draw.lognormvariate(0, 0.2) for count in tokens]) for _ in range(400)]
    covered = sum(abs(law.exponent - 1) < 2 * law.error for law in laws) / len(laws)
    assert 0.83 < covered < 0.93


def test_the_peak_is_the_highest_running_sum() -> None:
    assert highest_sum([]) == 0
    assert highest_sum([4, 4, -4, 2, -6]) == 8
    assert highest_sum([-10, 3]) == 0  # releases of memory from before the call
