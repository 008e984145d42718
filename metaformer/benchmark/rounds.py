"""Who is faster? Calls in turns, round after round, and what their times say.

What else a machine does falls on everyone alike when all take turns, so a figure is never one time alone but the median
over the rounds of a ratio of two times of the same round.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Call = Callable[[], object]
Seconds = float
Turn = Seconds | Exception
"""How long one call took, or why it failed."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How the turns are taken."""

    rounds: int
    warm_up: int = 2
    """Rounds before them that are not counted: engines choose kernels, compilers compile."""
    least: Seconds = 0.2
    """A turn repeats a short call until about so long has passed."""
    pause: Seconds = 0.02
    """Before each turn: idle threads of the one before spin a while before they sleep, and would take the cores."""

    @property
    def total(self) -> int:
        """Rounds with those of the warm-up."""
        return self.rounds + self.warm_up


def in_turns(
    calls: Mapping[str, Call],
    pace: Pace,
    *,
    finish: Call = lambda: None,
    tell: Callable[[str], None] = lambda name: None,
) -> Iterator[dict[str, Turn]]:
    """Each round's times by name: every call has one turn, and every second round goes backwards.

    A call that raises is in its round with the exception and in none after it; warm-up rounds hold such failures only.
    ``finish`` waits for what a call has set going (a GPU); ``tell`` hears who is next.
    """
    going, repeats = dict(calls), dict.fromkeys(calls, 1)
    for number in range(-pace.warm_up, pace.rounds):
        turns: dict[str, Turn] = {}
        for name in list(going) if number % 2 == 0 else list(reversed(going)):
            tell(name)
            time.sleep(pace.pause)
            try:
                turns[name] = spent = _turn(going[name], repeats[name], finish, again=number >= 0 and pace.least > 0)
            except Exception as error:  # whatever a library raises is that contender's result
                turns[name] = error
                del going[name]
            else:
                repeats[name] = repeats[name] if number >= 0 else _repeats(spent, pace.least)
        yield {name: turn for name, turn in turns.items() if number >= 0 or isinstance(turn, Exception)}


def _turn(call: Call, repeats: int, finish: Call, *, again: bool) -> Seconds:
    """Mean time of ``repeats`` calls; one before them, ``again``, brings the weights back into the cache."""
    if again:
        call()
        finish()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    finish()
    return (time.perf_counter() - start) / repeats


def _repeats(spent: Seconds, least: Seconds) -> int:
    return max(1, min(100, math.ceil(least / max(spent, 1e-6))))


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        several = values if len(values) > 1 else [*values, *values]
        low, median, high = statistics.quantiles(several, n=4, method="inclusive")
        return cls(median, low, high)


def ratio(baseline: Sequence[Seconds], times: Sequence[Seconds]) -> Spread:
    """How many times faster than the baseline, of the same rounds: above 1 the baseline is slower."""
    return Spread.of([theirs / ours for theirs, ours in zip(baseline, times, strict=True)])


@dataclass(frozen=True)
class PowerLaw:
    """y = c·x^exponent, with the exponent's standard error."""

    exponent: float
    error: float

    @classmethod
    def fitted(cls, x: Sequence[float], y: Sequence[float]) -> PowerLaw:
        """By least squares between the logarithms of at least three pairs."""
        across, up = [math.log(value) for value in x], [math.log(value) for value in y]
        slope, intercept = statistics.linear_regression(across, up)
        residuals = sum((b - intercept - slope * a) ** 2 for a, b in zip(across, up, strict=True))
        middle = statistics.fmean(across)
        variance = residuals / (len(across) - 2) / sum((a - middle) ** 2 for a in across)
        return cls(slope, math.sqrt(variance))
