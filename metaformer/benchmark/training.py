"""Training: one step of forward, backward and AdamW, ours and timm's in the same loop; time, peak memory, losses."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from ..model.lean.blocks import with_lean_blocks
from .contenders import Entry, Row, with_compiler
from .engines import expect_precision
from .inference import add_metrics, add_round, finish_of
from .memory import peak_bytes, tensor_bytes
from .rounds import Pace, in_turns
from .setting import OnStep
from .trial import Trial

BASELINE = "timm, channels_last"
LEARNING_RATE = 1e-4
STEPS = 3
"""Steps whose losses are compared. The first depends on the forward pass alone, the others on the gradients too."""
TOLERANCE = {"fp32": 1e-3, "bf16": 0.05}
"""The largest relative difference between a loss and its reference."""


@dataclass(frozen=True, kw_only=True)
class TrainingContender(Entry):
    """One that is trained."""

    model: Callable[[Trial], nn.Module]
    head: str
    """Which of our models must have the same losses: the one with the ``original`` head or with ``timm``'s."""


_KINDS: tuple[tuple[str, str, Callable[[Trial], nn.Module], str], ...] = (
    ("ours", "metaformer", lambda trial: trial.ours, "original"),
    ("ours, lean blocks", "metaformer", lambda trial: with_lean_blocks(trial.ours), "original"),
    (BASELINE, "timm", lambda trial: trial.timm, "timm"),
)
"""Name, library, model and head."""


def training_contenders(*, peers: bool = True, compilers: bool = True) -> list[TrainingContender]:
    """Ours and timm's, eager and compiled, in float32 and under autocast to bfloat16."""
    engines = ("eager", "torch.compile") if compilers else ("eager",)
    return [
        TrainingContender(
            name=name + (", torch.compile" if engine != "eager" else "") + (", bf16" if precision == "bf16" else ""),
            library=library,
            engine=engine,
            precision=precision,
            layout="channels_last",
            model=model,
            head=head,
        )
        for precision, engine in product(("fp32", "bf16"), engines)
        for name, library, model, head in _KINDS
        if peers or library == "metaformer"
    ]


class Step:
    """One training step on a trial's images. Calling it updates the model and returns the loss before the update."""

    def __init__(self, model: nn.Module, trial: Trial, precision: str, *, compiled: bool = False) -> None:
        self.trial = trial
        self.model = copy.deepcopy(model).to(memory_format=torch.channels_last).train()
        self.images = trial.images.contiguous(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, fused=True)
        self._autocast = precision == "bf16"
        self._forward: Callable[[Tensor], Tensor] = (
            with_compiler(self.model, trial.device, trains=True) if compiled else self.model
        )

    def __call__(self) -> Tensor:
        """Forward, backward, update."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.trial.device.type, torch.bfloat16, enabled=self._autocast):
            loss = nn.functional.cross_entropy(self._forward(self.images), self.trial.labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def peak(self) -> int:
        """Peak bytes of the step: weights, the optimizer's state, and the peak of the call beyond them."""
        self.optimizer.zero_grad(set_to_none=True)  # gradients belong to the call's peak, not to the memory before it
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        before = tensor_bytes([*self.model.parameters(), *self.model.buffers(), *state])
        return before + peak_bytes(self, self.trial.device)


@dataclass(kw_only=True)
class TrainingResult:
    """Rows of one model at one batch size."""

    model: str
    batch: int
    size: int
    rows: list[Row] = field(default_factory=list)
    baseline: str = BASELINE

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with the metrics."""
        timed = [row.name for row in self.rows if row.is_timed]
        if timed and self.baseline not in timed:
            self.baseline = timed[0]
        add_metrics(self.rows, self.baseline, self.batch)
        return asdict(self)


def measure_training(
    trial: Trial, contenders: Sequence[TrainingContender], pace: Pace, on_step: OnStep
) -> Iterator[TrainingResult]:
    """The result after each finished round."""
    torch.compiler.reset()  # else graphs of the inference section count towards the recompile limit
    result, steps = TrainingResult(model=trial.name, batch=trial.batch, size=trial.size), {}
    for contender in contenders:
        on_step(f"building {contender.name}")
        row, step = _checked(contender, trial)
        result.rows.append(row)
        if step is not None:
            steps[row.name] = step
    for turns in in_turns(steps, pace, finish=finish_of(trial.device), on_turn=on_step):
        add_round(result.rows, turns)
        yield result


def _checked(contender: TrainingContender, trial: Trial) -> tuple[Row, Step | None]:
    """A contender's row with its peak memory, and its step if its first losses equal the reference's."""
    row = Row.of(contender)
    try:
        expect_precision(contender.precision, "torch", trial.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step = Step(contender.model(trial), trial, contender.precision, compiled=contender.engine != "eager")
            losses = [float(step()) for _ in range(STEPS)]  # compiles as well, so that no turn does
            row.metrics["peak_bytes"] = step.peak()
        row.difference = largest_difference(losses, _reference(trial, contender.head))
    except Exception as error:  # any exception of a library is the result of its contender
        row.fail(error)
        return row, None
    return row, step if row.is_within(TOLERANCE, "losses off by") else None


def largest_difference(losses: Sequence[float], reference: Sequence[float]) -> float:
    """The largest relative difference; NaN if a loss is NaN."""
    shares = [abs(loss - right) / abs(right) for loss, right in zip(losses, reference, strict=True)]
    return math.nan if any(map(math.isnan, shares)) else max(shares)  # ``max`` alone may pass over a NaN


def _reference(trial: Trial, head: str) -> list[float]:
    """The losses of our eager float32 model."""
    if head not in trial.losses:
        step = Step(trial.reference(head), trial, "fp32")
        trial.losses[head] = [float(step()) for _ in range(STEPS)]
    return trial.losses[head]
