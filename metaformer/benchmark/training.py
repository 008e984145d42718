"""Training: one step of forward, backward and AdamW, ours and timm's under the same loop; time, peak memory, losses."""

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
from .contenders import Row, with_compiler
from .engines import expect_precision
from .inference import finish_of, take_down, worked_out
from .memory import peak_bytes, standing_bytes
from .rounds import Pace, in_turns
from .setting import Tell
from .trial import Trial

BASELINE = "timm, channels_last"
LEARNING_RATE = 1e-4
STEPS = 3
"""Whose losses are compared: the second and the third tell of the gradients."""
TOLERANCE = {"fp32": 1e-3, "bf16": 0.05}
"""How far a loss may be off its reference, as a share of it."""


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A model of one library that is trained."""

    name: str
    library: str
    engine: str
    precision: str
    layout: str
    choice: Callable[[Trial], nn.Module]
    head: str
    """Which of our models has its losses."""


def _lean(trial: Trial) -> nn.Module:
    return with_lean_blocks(trial.ours)


_KINDS: tuple[tuple[str, str, Callable[[Trial], nn.Module], str], ...] = (
    ("ours", "metaformer", lambda trial: trial.ours, "original"),
    ("ours, lean blocks", "metaformer", _lean, "original"),
    (BASELINE, "timm", lambda trial: trial.timm, "timm"),
)
"""Name, library, model and head."""


def learners(*, peers: bool = True, compilers: bool = True) -> list[Learner]:
    """Ours and timm's, eager and compiled, in float32 and under autocast to bfloat16."""
    engines = ("eager", "torch.compile") if compilers else ("eager",)
    return [
        Learner(
            name=name + (", torch.compile" if engine != "eager" else "") + (", bf16" if precision == "bf16" else ""),
            library=library,
            engine=engine,
            precision=precision,
            layout="channels_last",
            choice=choice,
            head=head,
        )
        for precision, engine in product(("fp32", "bf16"), engines)
        for name, library, choice, head in _KINDS
        if peers or library == "metaformer"
    ]


class Step:
    """One training step on a trial's images; a call makes it and gives the loss before it."""

    def __init__(self, model: nn.Module, trial: Trial, precision: str, *, compiled: bool = False) -> None:
        self.trial = trial
        self.model = copy.deepcopy(model).to(memory_format=torch.channels_last).train()
        self.images = trial.images.contiguous(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, fused=True)
        self._autocast = precision == "bf16"
        self._forward: Any = with_compiler(self.model, trial.device, learns=True) if compiled else self.model

    def __call__(self) -> Tensor:
        """Forward, backward, update."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.trial.device.type, torch.bfloat16, enabled=self._autocast):
            loss = nn.functional.cross_entropy(self._forward(self.images), self.trial.labels)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def peak(self) -> int:
        """Bytes at the step's peak: weights, the optimizer's state, and what the step takes beyond them."""
        self.optimizer.zero_grad(set_to_none=True)
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        standing = standing_bytes([*self.model.parameters(), *self.model.buffers(), *state])
        return standing + peak_bytes(self, self.trial.device)


@dataclass(kw_only=True)
class Lesson:
    """Rows of one model at one batch."""

    model: str
    batch: int
    size: int
    rows: list[Row] = field(default_factory=list)
    baseline: str = BASELINE

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with the figures worked out."""
        timed = [row.name for row in self.rows if row.is_timed]
        if timed and self.baseline not in timed:
            self.baseline = timed[0]
        worked_out(self.rows, self.baseline, self.batch)
        return asdict(self)


def learn(trial: Trial, chosen: Sequence[Learner], pace: Pace, tell: Tell) -> Iterator[Lesson]:
    """The lesson after each finished round."""
    torch.compiler.reset()
    result, steps = Lesson(model=trial.name, batch=trial.batch, size=trial.size), {}
    for learner in chosen:
        tell(f"builds {learner.name}")
        row, step = _checked(learner, trial)
        result.rows.append(row)
        if step is not None:
            steps[row.name] = step
    for turns in in_turns(steps, pace, finish=finish_of(trial.device), tell=tell):
        take_down(result.rows, turns)
        yield result


def _checked(learner: Learner, trial: Trial) -> tuple[Row, Step | None]:
    """A learner's row with its peak memory, and its step if its first losses are right."""
    row = Row(**{name: getattr(learner, name) for name in ("name", "library", "engine", "precision", "layout")})
    try:
        expect_precision(learner.precision, "torch", trial.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step = Step(learner.choice(trial), trial, learner.precision, compiled=learner.engine != "eager")
            losses = [float(step()) for _ in range(STEPS)]
            row.figures["peak_bytes"] = step.peak()
        row.difference = furthest(losses, _reference(trial, learner.head))
    except Exception as error:  # whatever a library raises is that learner's result
        row.gives_up(error)
        return row, None
    limit = TOLERANCE[learner.precision]
    if not row.difference <= limit:  # neither is "not a number"
        row.state, row.note = "wrong", f"losses off by {row.difference:.2g}, {learner.precision} allows {limit:g}"
        return row, None
    return row, step


def furthest(losses: Sequence[float], reference: Sequence[float]) -> float:
    """The largest difference as a share of the reference; not a number where a loss is none."""
    shares = [abs(loss - right) / abs(right) for loss, right in zip(losses, reference, strict=True)]
    return math.nan if any(map(math.isnan, shares)) else max(shares)


def _reference(trial: Trial, head: str) -> list[float]:
    """The losses of our eager float32 model."""
    if head not in trial.losses:
        step = Step(trial.reference(head), trial, "fp32")
        trial.losses[head] = [float(step()) for _ in range(STEPS)]
    return trial.losses[head]
