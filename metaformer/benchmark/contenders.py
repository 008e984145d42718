"""The contenders as rows of data: this library in every way of calling it, and the other libraries at their best.

In: a ``Trial``. Out: a call on its images that returns scores (B, K). Every contender is checked before it is timed:
its scores may differ from those of our eager float32 model with the same weights only as far as its precision allows.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..deploy.compile import Backend, compile
from ..deploy.fold import fold
from ..deploy.precision import PRECISIONS, Precision
from ..errors import InputError
from .engines import ScoresCall, expect_precision, onnxruntime_call, openvino_call
from .rounds import Call
from .trial import Trial

TOLERANCE = {"fp32": 1e-3, "bf16": 0.05, "int8": 0.15}
"""The largest ‖scores − reference‖ / ‖reference‖ over the batch."""

Prepare = Callable[[Trial], ScoresCall]
Choice = Callable[[Trial], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model of one library in one engine."""

    name: str
    library: str
    engine: str
    precision: str
    layout: str
    """Memory format of the images: ``nchw`` or ``channels_last``; engines choose their own inside."""


@dataclass(frozen=True, kw_only=True)
class Contender(Entry):
    """One that is compared in inference."""

    prepare: Prepare
    """Builds the call; an ``InputError`` is the reason why it cannot take part."""
    head: str | None = "original"
    """Which of our models must have the same scores: the one with the ``original`` head, with ``timm``'s, or none
    (another network)."""
    on: tuple[str, ...] = ("cpu", "cuda")
    """Devices."""


@dataclass(kw_only=True)
class Row:
    """The result of a contender."""

    name: str
    library: str
    engine: str
    precision: str
    layout: str
    state: str = "timed"
    """``timed``; ``left out`` (not installed, not on this machine), ``wrong`` (its scores), ``failed`` (it raised)."""
    note: str = ""
    """Why it is not timed, or a remark."""
    difference: float | None = None
    """Of its scores or losses from the reference, see ``TOLERANCE``."""
    times: list[float] = field(default_factory=list)
    """Seconds of a call in each round."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Computed from the times."""

    @classmethod
    def of(cls, entry: Entry) -> Row:
        """An empty row."""
        return cls(**{name: getattr(entry, name) for name in ("name", "library", "engine", "precision", "layout")})

    @property
    def is_timed(self) -> bool:
        """Whether its times count."""
        return self.state == "timed" and bool(self.times)

    def fail(self, error: Exception) -> None:
        """Record an exception. Times of earlier rounds are dropped: they have no counterpart in later ones."""
        self.state = "left out" if isinstance(error, (InputError, ImportError)) else "failed"
        message = " ".join(str(error).split())
        self.note = message if isinstance(error, InputError) else f"{type(error).__name__}: {message}"[:300]
        self.times = []

    def is_within(self, tolerance: Mapping[str, float], off_by: str = "off by") -> bool:
        """Whether the difference is allowed for this precision; if not, the row says so."""
        limit = tolerance[self.precision]
        if self.difference is None or self.difference <= limit:
            return True
        self.state = "wrong"  # also for NaN, which is not ``<=`` anything
        self.note = f"{off_by} {self.difference:.2g}, {self.precision} allows {limit:g}"
        return False


def checked(contender: Contender, trial: Trial) -> tuple[Row, Call | None]:
    """A contender's row, and its call if its scores are right."""
    row = Row.of(contender)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # NNCF prints progress bars
            warnings.simplefilter("ignore")  # warnings that matter are in the notes
            call = contender.prepare(trial)
            row.note = " ".join(getattr(call, "notes", ()))
            scores = call()
            if contender.head is not None:
                row.difference = difference(scores, trial.expected_scores(contender.head))
    except Exception as error:  # any exception of a library is the result of its contender
        row.fail(error)
        return row, None
    return row, call if row.is_within(TOLERANCE) else None


def difference(scores: Tensor, reference: Tensor) -> float:
    """‖scores − reference‖ / ‖reference‖; NaN if the shapes differ."""
    if scores.shape != reference.shape:
        return float("nan")
    return float((scores.float().cpu() - reference).norm() / reference.norm())


# --- ways to call a model ------------------------------------------------------------------------------------------


def _torch(choice: Choice, *, precision: str = "fp32", channels_last: bool = False, compiled: bool = False) -> Prepare:
    """In PyTorch: precision, memory format of weights and images, ``torch.compile``."""

    def prepare(trial: Trial) -> ScoresCall:
        expect_precision(precision, "torch", trial.device)
        model, images = choice(trial), trial.images
        if precision == "bf16":
            model, images = copy.deepcopy(model).bfloat16(), images.bfloat16()
        if channels_last:
            model = copy.deepcopy(model).to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)
        return scores_call(with_compiler(model, trial.device) if compiled else model, images)

    return prepare


def with_compiler(model: nn.Module, device: torch.device, *, trains: bool = False) -> Callable[[Tensor], Any]:
    """``torch.compile`` at its best for the device. A graph break raises instead of silently running eager code."""
    if device.type == "cuda":
        return torch.compile(model, fullgraph=True, mode="max-autotune")
    return torch.compile(model, fullgraph=True, options={"freezing": not trains})


def scores_call(model: Callable[[Tensor], Any], images: Tensor) -> ScoresCall:
    """The model's scores of these images, without gradients."""

    def call() -> Tensor:
        with torch.inference_mode():
            scores = model(images)
        return scores if isinstance(scores, Tensor) else scores.logits  # transformers wraps them

    return call


def _ours(trial: Trial) -> nn.Module:
    return trial.ours


def _folded(trial: Trial) -> nn.Module:
    return fold(trial.ours)


def _timm(trial: Trial) -> nn.Module:
    return trial.timm


def _transformers(trial: Trial) -> nn.Module:
    return trial.transformers


def _resnet18(trial: Trial) -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(num_classes=trial.spec.num_classes).eval().to(trial.device)


def _compile(backend: Backend, precision: Precision) -> Prepare:
    """``metaformer.compile``. If it fell back to another backend, that backend has a row of its own."""

    def prepare(trial: Trial) -> ScoresCall:
        expect_precision(precision, backend, trial.device)
        compiled = compile(
            trial.ours,
            precision=precision,
            backend=backend,
            calibration=trial.calibration.split(trial.batch) if precision == "int8" else None,
            threads=trial.threads,
        )
        if (compiled.backend, compiled.precision) != (backend, precision):
            raise InputError(f"fell back to {compiled.backend} {compiled.precision}: {' '.join(compiled.notes)}")
        return scores_call(compiled, trial.images)

    return prepare


def _openvino(choice: Choice, precision: str) -> Prepare:
    return lambda trial: openvino_call(choice(trial), trial.images, precision, trial.threads, trial.calibration)


def _onnxruntime(choice: Choice) -> Prepare:
    return lambda trial: onnxruntime_call(choice(trial), trial.images, trial.threads)


# --- the rows -------------------------------------------------------------------------------------------------------

CPU = ("cpu",)
LAST = "channels_last"
_BACKENDS: tuple[tuple[Backend, tuple[str, ...]], ...] = (
    ("torch", Contender.on),
    ("openvino", CPU),
    ("onnxruntime", CPU),
)


def _own(
    name: str,
    engine: str,
    precision: str,
    prepare: Prepare,
    layout: str = "nchw",
    on: tuple[str, ...] = Contender.on,
) -> Contender:
    return Contender(
        name=f"ours, {name}", library="metaformer", engine=engine, precision=precision, layout=layout,
        prepare=prepare, on=on,
    )  # fmt: skip


def _peer(
    name: str,
    engine: str,
    precision: str,
    prepare: Prepare,
    layout: str = "nchw",
    on: tuple[str, ...] = Contender.on,
) -> Contender:
    return Contender(
        name=f"timm, {name}", library="timm", engine=engine, precision=precision, layout=layout, prepare=prepare,
        head="timm", on=on,
    )  # fmt: skip


INDUCTOR = ("torch.compile", "torch")
"""Engines whose code Inductor compiles, which takes minutes."""
BASELINE = "timm, eager"
"""Ratios are relative to timm as it is usually called; where timm lacks the model, to ours, eager."""

OURS = (
    _own("eager", "eager", "fp32", _torch(_ours)),
    _own("eager, channels_last", "eager", "fp32", _torch(_ours, channels_last=True), LAST),
    _own("torch.compile", "torch.compile", "fp32", _torch(_ours, compiled=True)),
    _own("folded", "eager", "fp32", _torch(_folded)),
    _own("folded, torch.compile", "torch.compile", "fp32", _torch(_folded, compiled=True)),
    _own("bf16", "eager", "bf16", _torch(_ours, precision="bf16", channels_last=True), LAST),
    _own(
        "folded, torch.compile, bf16", "torch.compile", "bf16",
        _torch(_folded, precision="bf16", channels_last=True, compiled=True), LAST,
    ),
    *(
        _own(f"fast, {backend}, {precision}", backend, precision, _compile(backend, precision), on=on)
        for backend, on in _BACKENDS
        for precision in PRECISIONS
    ),
)  # fmt: skip
PEERS = (
    _peer("eager", "eager", "fp32", _torch(_timm)),
    _peer("channels_last", "eager", "fp32", _torch(_timm, channels_last=True), LAST),
    _peer("channels_last, bf16", "eager", "bf16", _torch(_timm, precision="bf16", channels_last=True), LAST),
    _peer(
        "channels_last, torch.compile", "torch.compile", "fp32", _torch(_timm, channels_last=True, compiled=True), LAST
    ),
    _peer(
        "channels_last, torch.compile, bf16", "torch.compile", "bf16",
        _torch(_timm, precision="bf16", channels_last=True, compiled=True), LAST,
    ),
    *(
        _peer(f"openvino, {precision}", "openvino", precision, _openvino(_timm, precision), on=CPU)
        for precision in PRECISIONS
    ),
    _peer("onnxruntime, fp32", "onnxruntime", "fp32", _onnxruntime(_timm), on=CPU),
    Contender(
        name="transformers, eager", library="transformers", engine="eager", precision="fp32", layout="nchw",
        prepare=_torch(_transformers),
    ),
    Contender(
        name="torchvision's ResNet-18, channels_last", library="torchvision", engine="eager", precision="fp32",
        layout=LAST, prepare=_torch(_resnet18, channels_last=True), head=None,
    ),
    Contender(
        name="torchvision's ResNet-18, openvino, fp32", library="torchvision", engine="openvino", precision="fp32",
        layout="nchw", prepare=_openvino(_resnet18, "fp32"), head=None, on=CPU,
    ),
)  # fmt: skip


def contenders(device: torch.device, *, peers: bool = True, compilers: bool = True) -> list[Contender]:
    """All contenders for a device; without ``compilers`` none that Inductor compiles, which takes a minute each."""
    chosen = (*OURS, *(PEERS if peers else ()))
    return [one for one in chosen if device.type in one.on and (compilers or one.engine not in INDUCTOR)]
