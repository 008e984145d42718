"""Times of several calls, measured in turns, and the statistics of these times.

Other load on the machine slows all calls alike if they take turns. So a comparison is never made between two single
times, but is the median over the rounds of the ratio of two times of the same round.
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
"""The time of one call, or the exception that it raised."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many rounds there are, and how long a turn takes."""

    rounds: int
    warm_up: int = 2
    """Rounds before them that are not counted: engines choose kernels, compilers compile."""
    min_seconds: Seconds = 0.2
    """A turn repeats a short call until about so long has passed."""
    pause: Seconds = 0.02
    """Before each turn: idle threads of the previous engine spin for a while before they sleep and use the cores."""

    @property
    def total(self) -> int:
        """Rounds including the warm-up."""
        return self.rounds + self.warm_up


def in_turns(
    calls: Mapping[str, Call],
    pace: Pace,
    *,
    finish: Call = lambda: None,
    on_turn: Callable[[str], None] = lambda name: None,
) -> Iterator[dict[str, Turn]]:
    """The times of each round by name. Every call has one turn in a round; the order is reversed every second round.

    A call that raises has the exception in this round and takes part in no later one; warm-up rounds yield only such
    failures. ``finish`` waits for asynchronous work (a GPU). ``on_turn`` is called with the name before each turn.
    """
    remaining, repeats = dict(calls), dict.fromkeys(calls, 1)
    for number in range(-pace.warm_up, pace.rounds):
        turns: dict[str, Turn] = {}
        for name in list(remaining) if number % 2 == 0 else list(reversed(remaining)):
            on_turn(name)
            time.sleep(pace.pause)
            try:
                warm = number >= 0 and pace.min_seconds > 0
                turns[name] = spent = _turn(remaining[name], repeats[name], finish, warm=warm)
            except Exception as error:  # any exception of a library is the result of its contender
                turns[name] = error
                del remaining[name]
            else:
                repeats[name] = repeats[name] if number >= 0 else _repeats(spent, pace.min_seconds)
        yield {name: turn for name, turn in turns.items() if number >= 0 or isinstance(turn, Exception)}


def _turn(call: Call, repeats: int, finish: Call, *, warm: bool) -> Seconds:
    """Mean time of ``repeats`` calls. ``warm`` makes an uncounted call first, to load the weights into the cache."""
    if warm:
        call()
        finish()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    finish()
    return (time.perf_counter() - start) / repeats


def _repeats(spent: Seconds, min_seconds: Seconds) -> int:
    """How many calls of this duration fill a turn; 100 at most, since the first call may be timed as almost zero."""
    return max(1, min(100, math.ceil(min_seconds / max(spent, 1e-6))))


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        several = values if len(values) > 1 else [*values, *values]  # ``quantiles`` wants two
        low, median, high = statistics.quantiles(several, n=4, method="inclusive")
        return cls(median, low, high)


def ratio(baseline: Sequence[Seconds], times: Sequence[Seconds]) -> Spread:
    """The speed relative to the baseline in the same rounds: above 1 is faster than the baseline."""
    return Spread.of([theirs / ours for theirs, ours in zip(baseline, times, strict=True)])


@dataclass(frozen=True)
class PowerLaw:
    """y = c·x^exponent, with the exponent's standard error."""

    exponent: float
    error: float

    @classmethod
    def fit(cls, x: Sequence[float], y: Sequence[float]) -> PowerLaw:
        """By least squares between the logarithms of at least three pairs."""
        log_x, log_y = [math.log(value) for value in x], [math.log(value) for value in y]
        slope, intercept = statistics.linear_regression(log_x, log_y)
        residuals = sum((b - intercept - slope * a) ** 2 for a, b in zip(log_x, log_y, strict=True))
        mean = statistics.fmean(log_x)
        # Two parameters are fitted, so n - 2 degrees of freedom are left.
        variance = residuals / (len(log_x) - 2) / sum((a - mean) ** 2 for a in log_x)
        return cls(slope, math.sqrt(variance))
