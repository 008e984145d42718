"""Inference: all contenders in turns, with the machine's peak measured in the same rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..deploy.precision import PRECISIONS, available
from ..errors import MissingExtraError
from .contenders import BASELINE, Contender, Row, checked
from .engines import PRODUCT, product_call
from .rounds import Call, Pace, Spread, Turn, in_turns, ratio
from .setting import OnStep
from .trial import Trial


@dataclass(kw_only=True)
class Comparison:
    """Rows of one model at one batch size, and the machine's peak."""

    model: str
    batch: int
    size: int
    macs: int
    """For one image."""
    rows: list[Row]
    peaks: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of a matrix product in each round, by precision."""

    @property
    def baseline(self) -> str:
        """The contender that ratios are relative to: timm, eager; without it the first that is timed."""
        timed = [row.name for row in self.rows if row.is_timed]
        return BASELINE if BASELINE in timed or not timed else timed[0]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with the metrics."""
        add_metrics(self.rows, self.baseline, self.batch)
        for row in self.rows:
            seconds = self.peaks.get(row.precision)
            if row.is_timed and seconds and row.library != "torchvision":  # torchvision's is another network
                row.metrics["share_of_peak"] = round(share_of_peak(row.times, seconds, self.batch * self.macs), 4)
        speeds = {name: PRODUCT / statistics.median(times) / 1e9 for name, times in self.peaks.items() if times}
        peaks = {name: round(speed, 1) for name, speed in speeds.items()}
        return {**asdict(self), "baseline": self.baseline, "peak_gflops": peaks}


def add_metrics(rows: Sequence[Row], baseline: str, batch: int) -> None:
    """Write images/s and the speed relative to the baseline into the rows that are timed."""
    against = next((row.times for row in rows if row.name == baseline and row.is_timed), None)
    for row in rows:
        if row.is_timed:
            row.metrics["images_per_second"] = round(batch / statistics.median(row.times), 2)
            if against:
                faster = ratio(against, row.times)
                row.metrics["ratio"] = round(faster.median, 4)
                row.metrics["quartiles"] = [round(faster.low, 4), round(faster.high, 4)]


def share_of_peak(times: Sequence[float], product: Sequence[float], macs: int) -> float:
    """Operations per second relative to a plain matrix product in the same round; a call has 2·MACs operations."""
    return Spread.of([2 * macs / spent / (PRODUCT / peak) for spent, peak in zip(times, product, strict=True)]).median


def compare(trial: Trial, contenders: Sequence[Contender], pace: Pace, on_step: OnStep) -> Iterator[Comparison]:
    """The comparison after each finished round. Contenders that cannot take part have a row too."""
    torch.compiler.reset()  # else graphs of the previous comparison count towards the recompile limit
    calls: dict[str, Call] = {}
    rows = []
    for contender in contenders:
        on_step(f"building {contender.name}")
        row, call = checked(contender, trial)
        rows.append(row)
        if call is not None:
            calls[row.name] = call
    peaks = _peaks(trial)
    result = Comparison(
        model=trial.name, batch=trial.batch, size=trial.size, macs=trial.macs, rows=rows, peaks={n: [] for n in peaks}
    )
    named = {f"peak {name}": call for name, call in peaks.items()}
    for turns in in_turns({**named, **calls}, pace, finish=finish_of(trial.device), on_turn=on_step):
        add_round(rows, turns)
        for name in peaks:
            spent = turns.get(f"peak {name}")
            if isinstance(spent, float):
                result.peaks[name].append(spent)
            elif spent is not None:
                result.peaks.pop(name)
        yield result


def add_round(rows: Sequence[Row], turns: Mapping[str, Turn]) -> None:
    """Add the times of a round to the rows; a row whose call raised has failed."""
    for row in rows:
        turn = turns.get(row.name)
        if isinstance(turn, Exception):
            row.fail(turn)
        elif turn is not None:
            row.times.append(turn)


def _peaks(trial: Trial) -> dict[str, Call]:
    """A matrix product for each precision that the machine has instructions for."""
    found: dict[str, Call] = {}
    for precision in PRECISIONS:
        if precision == "bf16" and available("bf16", "torch", trial.device)[1]:
            continue
        if precision == "int8" and trial.device.type != "cpu":
            continue
        with suppress(MissingExtraError):  # the rows of this engine name the missing package
            found[precision] = product_call(precision, trial.threads, trial.device)
    return found


def finish_of(device: torch.device) -> Call:
    """The call that waits for a device; calls on a CPU have finished when they return."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None
